//! The memory of a device: tensors made, filled and read.

use super::Device;
use crate::error::{Error, Result};
use crate::pool::{Buffer, Pool};
use crate::tensor::{Format, Tensor};
use std::sync::mpsc;
use wgpu::{BufferDescriptor, BufferUsages, ErrorFilter, MapMode};

impl Device {
    /// A tensor whose numbers are not set yet.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] for more bytes than a buffer may have or the device has.
    pub fn empty(&self, len: usize, format: Format) -> Result<Tensor> {
        if format == Format::F16 && !self.0.f16 {
            let name = &self.0.facts.name;
            return Err(Error::Unavailable(format!("gpu: {name} does not store float16; use float32")));
        }
        let usage = BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
        let bytes = (len as u64).saturating_mul(format.bytes() as u64);
        Ok(Tensor::new(self.buffer(bytes, usage)?, len, format))
    }

    /// A tensor with the numbers whose bytes are given.
    ///
    /// # Errors
    /// As [`Device::empty`], and [`Error::Shape`] where the bytes are no whole numbers.
    pub fn upload(&self, bytes: &[u8], format: Format) -> Result<Tensor> {
        if !bytes.len().is_multiple_of(format.bytes()) {
            return Err(Error::Shape(format!("gpu: {} bytes are no {}", bytes.len(), format.name())));
        }
        let tensor = self.empty(bytes.len() / format.bytes(), format)?;
        let whole = bytes.len() - bytes.len() % 4;
        self.scoped(|| {
            self.0.queue.write_buffer(tensor.buffer.raw(), 0, &bytes[..whole]);
            if whole < bytes.len() {
                let last = [bytes[whole], bytes[whole + 1], 0, 0];
                self.0.queue.write_buffer(tensor.buffer.raw(), whole as u64, &last);
            }
            Ok(())
        })?;
        Ok(tensor)
    }

    /// A copy of a tensor in the memory of the device.
    ///
    /// # Errors
    /// As [`Device::empty`], and [`Error::Shape`] for one that begins in the middle of four bytes.
    pub fn copy(&self, tensor: &Tensor) -> Result<Tensor> {
        let copy = self.empty(tensor.len(), tensor.format())?;
        self.copy_into(tensor, &copy)?;
        Ok(copy)
    }

    /// Copies a tensor to the beginning of another of its format.
    pub(crate) fn copy_into(&self, from: &Tensor, to: &Tensor) -> Result<()> {
        let [start, end] = [from, to].map(|tensor| (tensor.start * tensor.format().bytes()) as u64);
        if !start.is_multiple_of(4) || !end.is_multiple_of(4) {
            return Err(Error::Shape(format!("gpu: a copy from byte {start} to {end}; use multiples of 4")));
        }
        self.scoped(|| {
            let bytes = from.bytes().next_multiple_of(4);
            let mut chain = self.chain();
            let encoder = chain.encoder(&self.0.raw);
            encoder.copy_buffer_to_buffer(from.buffer.raw(), start, to.buffer.raw(), end, bytes);
            Ok(())
        })
    }

    /// Runs what is recorded and copies a tensor into `bytes`; `go_on` is asked now and then.
    ///
    /// # Errors
    /// Whatever went wrong in the chain, [`Error::Timeout`], or [`Error::Interrupted`] where `go_on` says so.
    pub fn download(&self, tensor: &Tensor, bytes: &mut [u8], go_on: &mut dyn FnMut() -> bool) -> Result<()> {
        if bytes.len() as u64 != tensor.bytes() {
            return Err(Error::Shape(format!(
                "gpu: {} bytes for a tensor of {}",
                bytes.len(),
                tensor.bytes()
            )));
        }
        if bytes.is_empty() {
            return self.check();
        }
        // Copies begin and end at multiples of four bytes.
        let first = (tensor.start * tensor.format().bytes()) as u64;
        let offset = first - first % 4;
        let skip = (first - offset) as usize;
        let length = (skip as u64 + tensor.bytes()).next_multiple_of(4);
        let staging = self.buffer(length, BufferUsages::MAP_READ | BufferUsages::COPY_DST)?;
        let index = self.scoped(|| {
            let mut chain = self.chain();
            let encoder = chain.encoder(&self.0.raw);
            encoder.copy_buffer_to_buffer(tensor.buffer.raw(), offset, staging.raw(), 0, length);
            Ok(self.submit(&mut chain))
        })?;
        let (sender, receiver) = mpsc::channel();
        staging.raw().map_async(MapMode::Read, 0..length, move |answer| {
            // Nobody listens any more after a timeout.
            let _ = sender.send(answer);
        });
        if let Err(error) = self.wait(&index, go_on) {
            // It goes back to the pool, where nobody waits for a mapped buffer.
            staging.raw().unmap();
            return Err(error);
        }
        let mapped =
            receiver.try_recv().map_err(|_| Error::Validation("gpu: a result was not mapped".to_owned()))?;
        self.check()?;
        mapped.map_err(|error| Error::Validation(format!("gpu: a result cannot be read: {error}")))?;
        let view = staging.raw().get_mapped_range(0..length);
        let view =
            view.map_err(|error| Error::Validation(format!("gpu: a result cannot be read: {error}")))?;
        bytes.copy_from_slice(&view[skip..skip + bytes.len()]);
        drop(view);
        staging.raw().unmap();
        Ok(())
    }

    pub(super) fn buffer(&self, bytes: u64, usage: BufferUsages) -> Result<Buffer> {
        self.check()?;
        let (limit, name) = (self.0.limits.max_buffer_size, &self.0.facts.name);
        if bytes > limit {
            return Err(Error::OutOfMemory(format!(
                "gpu: a tensor of {bytes} bytes; {name} holds at most {limit} in one, so use parts"
            )));
        }
        let size = Pool::size_of(bytes).min(limit - limit % 4);
        let make = |size| self.new_buffer(size, usage);
        match self.0.pool.take(size, usage, make) {
            Err(Error::OutOfMemory(_)) => {
                self.0.pool.clear();
                self.0.pool.take(size, usage, make)
            }
            other => other,
        }
    }

    pub(super) fn new_buffer(&self, size: u64, usage: BufferUsages) -> Result<wgpu::Buffer> {
        let validation = self.0.raw.push_error_scope(ErrorFilter::Validation);
        let memory = self.0.raw.push_error_scope(ErrorFilter::OutOfMemory);
        let buffer = self.0.raw.create_buffer(&BufferDescriptor {
            label: None,
            size,
            usage,
            mapped_at_creation: false,
        });
        let of_memory = pollster::block_on(memory.pop());
        let of_validation = pollster::block_on(validation.pop());
        if of_memory.is_some() {
            let name = &self.0.facts.name;
            return Err(Error::OutOfMemory(format!(
                "gpu: {name} has no {size} bytes left; free arrays or use parts"
            )));
        }
        match of_validation {
            None => Ok(buffer),
            Some(error) => Err(self.explained(&error)),
        }
    }
}
