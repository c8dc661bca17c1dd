//! What goes wrong on a device, asked for or not.

use super::Device;
use crate::error::{Error, Result};
use std::sync::{Arc, Mutex, PoisonError};
use wgpu::{DeviceLostReason, ErrorFilter};

/// What the device has reported by itself.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    pub(super) lost: Option<String>,
    pub(super) errors: Vec<Error>,
}

impl Device {
    /// Raises what the device has reported by itself.
    ///
    /// # Errors
    /// [`Error::Lost`], or the first error that no call was there to take.
    pub fn check(&self) -> Result<()> {
        let mut trouble = self.trouble();
        if let Some(reason) = &trouble.lost {
            let name = &self.0.facts.name;
            return Err(Error::Lost(format!("gpu: the device {name} is lost ({reason}); open a new one")));
        }
        let errors = std::mem::take(&mut trouble.errors);
        errors.into_iter().next().map_or(Ok(()), Err)
    }

    /// Does something within scopes that take its errors.
    pub(super) fn scoped<R>(&self, action: impl FnOnce() -> Result<R>) -> Result<R> {
        self.check()?;
        let validation = self.0.raw.push_error_scope(ErrorFilter::Validation);
        let memory = self.0.raw.push_error_scope(ErrorFilter::OutOfMemory);
        let answer = action();
        let of_memory = pollster::block_on(memory.pop());
        let of_validation = pollster::block_on(validation.pop());
        match of_memory.or(of_validation) {
            None => answer,
            Some(error) => Err(self.explained(&error)),
        }
    }

    pub(super) fn explained(&self, error: &wgpu::Error) -> Error {
        self.check().err().unwrap_or_else(|| typed(error))
    }
}

/// Listens to what a device says by itself.
pub(super) fn watch(raw: &wgpu::Device, trouble: &Arc<Mutex<Trouble>>) {
    let heard = Arc::clone(trouble);
    raw.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
        heard.lock().unwrap_or_else(PoisonError::into_inner).errors.push(typed(&error));
    }));
    let heard = Arc::clone(trouble);
    raw.set_device_lost_callback(move |reason, message| {
        let reason = if reason == DeviceLostReason::Destroyed { "it was closed".to_owned() } else { message };
        heard.lock().unwrap_or_else(PoisonError::into_inner).lost.get_or_insert(reason);
    });
}

fn typed(error: &wgpu::Error) -> Error {
    match error {
        wgpu::Error::OutOfMemory { .. } => Error::OutOfMemory(format!("gpu: {error}")),
        other => Error::Validation(format!("gpu: {other}")),
    }
}
