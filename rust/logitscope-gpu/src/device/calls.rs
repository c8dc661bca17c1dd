//! Calls of shaders: recorded, submitted, waited for.

use super::Device;
use crate::chain::{Bound, Chain, LONGEST, SHIFTS};
use crate::error::{Error, Result};
use crate::pipeline::{self, Pipeline};
use crate::shader::Variant;
use crate::tensor::Tensor;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};
use wgpu::{BufferUsages, PollType, SubmissionIndex};

/// How often a wait looks whether somebody wants it to stop.
const TICK: Duration = Duration::from_millis(50);

/// What a look counts at most: a process that was suspended meanwhile did not wait.
const LONGEST_TICK: Duration = Duration::from_secs(1);

impl Device {
    /// Submits what is recorded, without waiting.
    ///
    /// # Errors
    /// Whatever the device says about it.
    pub fn flush(&self) -> Result<()> {
        self.scoped(|| {
            let mut chain = self.chain();
            if chain.encoder.is_some() {
                self.submit(&mut chain);
            }
            Ok(())
        })
    }

    /// Submits what is recorded and waits until it has run.
    ///
    /// # Errors
    /// As [`Device::download`].
    pub fn finish(&self, go_on: &mut dyn FnMut() -> bool) -> Result<()> {
        let index = self.scoped(|| Ok(self.submit(&mut self.chain())))?;
        self.wait(&index, go_on)?;
        self.check()
    }

    /// Records a call of a shader in so many workgroups; `parameters` follow the shifts of the tensors.
    pub(crate) fn call(
        &self,
        variant: &Variant,
        tensors: &[&Tensor],
        parameters: &[u32],
        groups: u64,
    ) -> Result<()> {
        self.check()?;
        let pipeline = self.pipeline(variant)?;
        let bound: Vec<_> = tensors.iter().map(|tensor| Bound::new(tensor, self.alignment())).collect();
        let limit = self.0.limits.max_storage_buffer_binding_size;
        if let Some(large) = bound.iter().find(|bound| bound.bytes() > limit) {
            let (shader, bytes, name) = (variant.shader, large.bytes(), &self.0.facts.name);
            return Err(Error::OutOfMemory(format!(
                "{shader}: a part of {bytes} bytes must be seen at once; {name} can bind {limit}"
            )));
        }
        let mut words = vec![0; SHIFTS];
        for (word, bound) in words.iter_mut().zip(&bound) {
            *word = bound.shift();
        }
        let (wide, high) = grid(groups, self.0.limits.max_compute_workgroups_per_dimension);
        words[SHIFTS - 1] = wide;
        words.extend_from_slice(parameters);
        let words: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let size = (words.len() as u64).next_multiple_of(16);
        let uniform = self.buffer(size, BufferUsages::UNIFORM | BufferUsages::COPY_DST)?;
        self.scoped(|| {
            self.0.queue.write_buffer(uniform.raw(), 0, &words);
            let mut chain = self.chain();
            chain.append(&self.0.raw, &pipeline, &uniform, &bound, (wide, high));
            if chain.calls >= LONGEST {
                self.submit(&mut chain);
            }
            Ok(())
        })
    }

    /// Compiles a shader that is not one of this crate's; it says whether it could.
    ///
    /// # Errors
    /// [`Error::Compile`] with what the compiler said.
    pub fn try_compile(&self, name: &str, text: &str) -> Result<()> {
        self.check()?;
        Pipeline::new(&self.0.raw, name, text, &[]).map(|_| ())
    }

    pub(super) fn pipeline(&self, variant: &Variant) -> Result<Arc<Pipeline>> {
        let mut pipelines = self.0.pipelines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = pipelines.get(variant) {
            return Ok(Arc::clone(found));
        }
        pipeline::check_memory(variant, self.workgroup_bytes())?;
        let new = Arc::new(Pipeline::new(&self.0.raw, variant.shader, &variant.source(), &variant.writes)?);
        pipelines.insert(variant.clone(), Arc::clone(&new));
        Ok(new)
    }

    pub(super) fn submit(&self, chain: &mut Chain) -> SubmissionIndex {
        let commands = std::mem::take(chain).encoder.map(wgpu::CommandEncoder::finish);
        let turn = self.turn();
        let index = self.0.queue.submit(commands);
        self.0.submissions.fetch_add(1, Ordering::Relaxed);
        drop(turn);
        self.0.pool.submitted();
        index
    }

    pub(super) fn wait(&self, index: &SubmissionIndex, go_on: &mut dyn FnMut() -> bool) -> Result<()> {
        let mut waited = Duration::ZERO;
        loop {
            let start = Instant::now();
            let poll = PollType::Wait { submission_index: Some(index.clone()), timeout: Some(TICK) };
            let turn = self.turn();
            let answer = self.0.raw.poll(poll);
            drop(turn);
            match answer {
                Ok(_) => return self.check(),
                Err(wgpu::PollError::Timeout) => {}
                Err(error) => return Err(Error::Validation(format!("gpu: {error}"))),
            }
            self.check()?;
            if !go_on() {
                return Err(Error::Interrupted);
            }
            waited += start.elapsed().min(LONGEST_TICK);
            if waited >= self.0.timeout {
                let (name, seconds) = (&self.0.facts.name, self.0.timeout.as_secs_f64());
                return Err(Error::Timeout(format!(
                    "gpu: {name} has not answered for {seconds} s; give it less at once, or a longer timeout"
                )));
            }
        }
    }
}

/// The groups of a call as a grid no side of which is over a limit; the last row of it may be in part too many.
fn grid(groups: u64, limit: u32) -> (u32, u32) {
    let high = groups.div_ceil(u64::from(limit)).max(1);
    (groups.div_ceil(high) as u32, high as u32)
}

#[cfg(test)]
mod tests {
    use super::grid;

    #[test]
    fn grids_hold_all_groups_within_the_limit() {
        for groups in [0, 1, 65_535, 65_536, 70_000, 131_071, 4_000_000_000] {
            let (wide, high) = grid(groups, 65_535);
            assert!(wide <= 65_535 && u64::from(wide) * u64::from(high) >= groups, "{groups}");
            assert!(u64::from(wide) * u64::from(high) < groups + u64::from(high) + 1, "{groups}");
        }
    }
}
