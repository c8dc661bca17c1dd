//! A GPU that computes: its memory, its compiled shaders, the calls it has yet to run.

use crate::adapter::{self, AdapterFacts};
use crate::chain::{Bound, Chain, LONGEST, SHIFTS};
use crate::error::{Error, Result};
use crate::pipeline::{self, Pipeline};
use crate::pool::{Buffer, Pool};
use crate::shader::{Reduction, Variant};
use crate::tensor::{Format, Tensor};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};
use wgpu::{
    BufferDescriptor, BufferUsages, DeviceDescriptor, DeviceLostReason, ErrorFilter, Features, MapMode,
    MemoryHints, PollType, SubmissionIndex,
};

/// How often a wait looks whether somebody wants it to stop.
const TICK: Duration = Duration::from_millis(50);

/// What a device is opened with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Index or part of the name of an adapter; the best if there is none.
    pub adapter: Option<String>,
    /// Whether the best may be software.
    pub allow_software: bool,
    /// How threads add up; by default through subgroups on real GPUs that have them.
    pub reduction: Option<Reduction>,
    /// The largest binding, if less than what the adapter can bind.
    pub binding_bytes: Option<u64>,
    /// How long a result is waited for.
    pub timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            adapter: None,
            allow_software: false,
            reduction: None,
            binding_bytes: None,
            timeout: Duration::from_secs(60),
        }
    }
}

/// A GPU; clones are the same one.
#[derive(Clone, Debug)]
pub struct Device(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    facts: AdapterFacts,
    raw: wgpu::Device,
    queue: wgpu::Queue,
    limits: wgpu::Limits,
    f16: bool,
    reduction: Reduction,
    reduction_is_forced: bool,
    timeout: Duration,
    pool: Arc<Pool>,
    pipelines: Mutex<HashMap<Variant, Arc<Pipeline>>>,
    chain: Mutex<Chain>,
    trouble: Arc<Mutex<Trouble>>,
}

/// What the device has reported by itself.
#[derive(Debug, Default)]
struct Trouble {
    lost: Option<String>,
    errors: Vec<Error>,
}

impl Device {
    /// Opens a device.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where there is none that fits, or none that can do what is asked for.
    pub fn open(settings: &Settings) -> Result<Self> {
        let (adapter, facts) = adapter::choose(settings.adapter.as_deref(), settings.allow_software)?;
        let features = adapter.features() & adapter::WANTED;
        let mut limits = adapter.limits();
        if let Some(bytes) = settings.binding_bytes {
            limits.max_storage_buffer_binding_size = limits.max_storage_buffer_binding_size.min(bytes.max(4));
        }
        let descriptor = DeviceDescriptor {
            label: Some("logitscope"),
            required_features: features,
            required_limits: limits.clone(),
            memory_hints: MemoryHints::Performance,
            ..DeviceDescriptor::default()
        };
        let (raw, queue) = pollster::block_on(adapter.request_device(&descriptor))
            .map_err(|error| Error::Unavailable(format!("gpu: {} gives no device: {error}", facts.name)))?;
        let trouble = Arc::new(Mutex::new(Trouble::default()));
        watch(&raw, &trouble);
        let has_subgroups = features.contains(Features::SUBGROUP);
        if settings.reduction == Some(Reduction::Subgroup) && !has_subgroups {
            return Err(Error::Unavailable(format!(
                "gpu: {} has no subgroups; use reduction='tree'",
                facts.name
            )));
        }
        // On a driver that computes on the CPU subgroups are slower than the tree.
        let best =
            if has_subgroups && facts.kind != "software" { Reduction::Subgroup } else { Reduction::Tree };
        let pool = Arc::new(Pool::new(limits.max_buffer_size / 4));
        Ok(Self(Arc::new(Inner {
            facts,
            raw,
            queue,
            f16: features.contains(Features::SHADER_F16),
            reduction: settings.reduction.unwrap_or(best),
            reduction_is_forced: settings.reduction.is_some(),
            timeout: settings.timeout,
            pool,
            limits,
            pipelines: Mutex::default(),
            chain: Mutex::default(),
            trouble,
        })))
    }

    /// What is known of its adapter.
    pub fn facts(&self) -> &AdapterFacts {
        &self.0.facts
    }

    /// Whether it stores numbers of 16 bits.
    pub fn has_f16(&self) -> bool {
        self.0.f16
    }

    /// The largest tensor that one call can see at once, in bytes; larger ones are seen in parts.
    pub fn binding_bytes(&self) -> u64 {
        // Shaders count numbers with 32 bits.
        self.0.limits.max_storage_buffer_binding_size.min(1 << 31)
    }

    /// Where bindings may begin: at multiples of this many bytes.
    pub(crate) fn alignment(&self) -> u64 {
        u64::from(self.0.limits.min_storage_buffer_offset_alignment).max(4)
    }

    /// How threads add up, and whether that was asked for.
    pub(crate) fn reduction(&self) -> (Reduction, bool) {
        (self.0.reduction, self.0.reduction_is_forced)
    }

    /// Bytes of workgroup memory.
    pub(crate) fn workgroup_bytes(&self) -> u32 {
        self.0.limits.max_compute_workgroup_storage_size
    }

    /// Bytes that the pool holds for later.
    pub fn pool_bytes(&self) -> u64 {
        self.0.pool.free_bytes()
    }

    /// Whether two are the same.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Ends the device: what it has not run is dropped, and every later call is [`Error::Lost`].
    pub fn close(&self) {
        self.trouble().lost.get_or_insert_with(|| "it was closed".to_owned());
        *self.chain() = Chain::default();
        self.0.pool.clear();
        self.0.raw.destroy();
    }

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
        self.wait(&index, go_on)?;
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
        words.push(wide);
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

    fn pipeline(&self, variant: &Variant) -> Result<Arc<Pipeline>> {
        let mut pipelines = self.0.pipelines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = pipelines.get(variant) {
            return Ok(Arc::clone(found));
        }
        pipeline::check_memory(variant, self.workgroup_bytes())?;
        let new = Arc::new(Pipeline::new(&self.0.raw, variant.shader, &variant.source(), &variant.writes)?);
        pipelines.insert(variant.clone(), Arc::clone(&new));
        Ok(new)
    }

    fn buffer(&self, bytes: u64, usage: BufferUsages) -> Result<Buffer> {
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

    fn new_buffer(&self, size: u64, usage: BufferUsages) -> Result<wgpu::Buffer> {
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

    /// Does something within scopes that take its errors.
    fn scoped<R>(&self, action: impl FnOnce() -> Result<R>) -> Result<R> {
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

    fn explained(&self, error: &wgpu::Error) -> Error {
        self.check().err().unwrap_or_else(|| typed(error))
    }

    fn submit(&self, chain: &mut Chain) -> SubmissionIndex {
        let commands = std::mem::take(chain).encoder.map(wgpu::CommandEncoder::finish);
        let index = self.0.queue.submit(commands);
        self.0.pool.submitted();
        index
    }

    fn wait(&self, index: &SubmissionIndex, go_on: &mut dyn FnMut() -> bool) -> Result<()> {
        let start = Instant::now();
        loop {
            let poll = PollType::Wait { submission_index: Some(index.clone()), timeout: Some(TICK) };
            match self.0.raw.poll(poll) {
                Ok(_) => return self.check(),
                Err(wgpu::PollError::Timeout) => {}
                Err(error) => return Err(Error::Validation(format!("gpu: {error}"))),
            }
            self.check()?;
            if !go_on() {
                return Err(Error::Interrupted);
            }
            if start.elapsed() >= self.0.timeout {
                let (name, seconds) = (&self.0.facts.name, self.0.timeout.as_secs_f64());
                return Err(Error::Timeout(format!(
                    "gpu: {name} has not answered for {seconds} s; give it less at once, or a longer timeout"
                )));
            }
        }
    }

    fn chain(&self) -> MutexGuard<'_, Chain> {
        self.0.chain.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn trouble(&self) -> MutexGuard<'_, Trouble> {
        self.0.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Listens to what a device says by itself.
fn watch(raw: &wgpu::Device, trouble: &Arc<Mutex<Trouble>>) {
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
