//! A GPU that computes: its memory, its compiled shaders, the calls it has yet to run.

mod calls;
mod memory;
mod trouble;

use crate::adapter::{self, AdapterFacts};
#[cfg(feature = "cooperative-matrix")]
use crate::attention::Matrices;
use crate::chain::Chain;
use crate::error::{Error, Result};
use crate::pipeline::Pipeline;
use crate::pool::Pool;
use crate::shader::{Reduction, Variant};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use trouble::{Trouble, watch};
use wgpu::{DeviceDescriptor, Features, MemoryHints};

/// Rounds of the loops of a thread, all together, after which Mesa's llvmpipe ends them without a word.
const SOFTWARE_ROUNDS: usize = 65_535;

/// What a device is opened with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Index or part of the name of an adapter; the best if there is none.
    pub adapter: Option<String>,
    /// The interfaces that it may be driven through; all if none are given.
    pub backends: Option<Vec<String>>,
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
            backends: None,
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
    /// Held by who submits and who waits: `wgpu` panics where a submission ends while two threads look for it.
    turn: Mutex<()>,
    submissions: AtomicU64,
    trouble: Arc<Mutex<Trouble>>,
    #[cfg(feature = "cooperative-matrix")]
    matrices: Option<Matrices>,
}

impl Device {
    /// Opens a device.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where there is none that fits, or none that can do what is asked for.
    pub fn open(settings: &Settings) -> Result<Self> {
        let (adapter, facts) = adapter::choose(
            settings.adapter.as_deref(),
            settings.backends.as_deref(),
            settings.allow_software,
        )?;
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
        #[cfg(feature = "cooperative-matrix")]
        let matrices = Matrices::of(&adapter);
        #[cfg(feature = "cooperative-matrix")]
        let descriptor = if matrices.is_some() { Matrices::asked_for(descriptor) } else { descriptor };
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
            turn: Mutex::default(),
            submissions: AtomicU64::new(0),
            trouble,
            #[cfg(feature = "cooperative-matrix")]
            matrices,
        })))
    }

    /// Makes the products of float16 attention in another way, of none as those of float32.
    ///
    /// # Panics
    /// If the device has clones.
    #[cfg(feature = "cooperative-matrix")]
    pub fn use_matrices(&mut self, matrices: Option<Matrices>) {
        Arc::get_mut(&mut self.0).expect("a device without clones").matrices = matrices;
    }

    /// What makes the products of float16 attention.
    #[cfg(feature = "cooperative-matrix")]
    pub fn matrices(&self) -> Option<Matrices> {
        self.0.matrices
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

    /// After how many rounds together Mesa's software driver ends the loops of a thread; other drivers do not.
    pub(crate) fn most_rounds(&self) -> usize {
        if self.0.facts.name.starts_with("llvmpipe") { SOFTWARE_ROUNDS } else { usize::MAX }
    }

    /// Refuses what would be wrong: more rounds than [`Device::most_rounds`].
    ///
    /// # Errors
    /// [`Error::Unavailable`] for more rounds than the driver does.
    pub(crate) fn check_rounds(&self, operation: &str, rounds: usize) -> Result<()> {
        let (name, most) = (&self.0.facts.name, self.most_rounds());
        if rounds > most {
            return Err(Error::Unavailable(format!(
                "{operation}: {rounds} rounds of a loop; {name} ends loops after {most}, so use shorter rows or the CPU"
            )));
        }
        Ok(())
    }

    /// Bytes that the pool holds for later.
    pub fn pool_bytes(&self) -> u64 {
        self.0.pool.free_bytes()
    }

    /// How often recorded calls were submitted.
    pub fn submissions(&self) -> u64 {
        self.0.submissions.load(Ordering::Relaxed)
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
        self.0.pipelines.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.0.raw.destroy();
    }

    fn chain(&self) -> MutexGuard<'_, Chain> {
        self.0.chain.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        self.0.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn trouble(&self) -> MutexGuard<'_, Trouble> {
        self.0.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
