//! Which GPUs there are, and the choice of one.

use crate::error::{Error, Result};
use std::sync::OnceLock;
use wgpu::{Adapter, Backends, DeviceType, Features, Instance, InstanceDescriptor, InstanceFlags};

/// Features that are used where an adapter has them.
pub(crate) const WANTED: Features = Features::SHADER_F16.union(Features::SUBGROUP);

/// What is known of an adapter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdapterFacts {
    /// Its place in the list of [`adapters`].
    pub index: usize,
    /// Such as `"AMD Radeon RX 7900 XTX"`.
    pub name: String,
    /// The interface it is driven through: `"vulkan"`, `"metal"` or `"dx12"`.
    pub backend: String,
    /// `"discrete"`, `"integrated"`, `"virtual"`, `"software"` or `"other"`.
    pub kind: &'static str,
    /// Its driver and that one's version.
    pub driver: String,
    /// Which of the features that logitscope uses it has.
    pub features: Vec<&'static str>,
    /// The limits that matter here.
    pub limits: Vec<(&'static str, u64)>,
}

/// The adapters of this machine, the best first; software comes last.
pub fn adapters() -> Vec<AdapterFacts> {
    found().iter().enumerate().map(|(index, adapter)| facts(index, adapter)).collect()
}

/// The interfaces that adapters are driven through.
const BACKENDS: [&str; 3] = ["vulkan", "metal", "dx12"];

/// The adapter with an index, or whose name has a part (in any case), or else the best one that is no software; of those
/// that are driven through one of `backends`.
pub(crate) fn choose(
    wanted: Option<&str>,
    backends: Option<&[String]>,
    allow_software: bool,
) -> Result<(Adapter, AdapterFacts)> {
    if let Some(unknown) = backends.unwrap_or_default().iter().find(|one| !BACKENDS.contains(&one.as_str())) {
        return Err(Error::Unavailable(format!("gpu: no backend '{unknown}'; use {}", BACKENDS.join(", "))));
    }
    let mut all: Vec<_> = found()
        .into_iter()
        .enumerate()
        .map(|(index, adapter)| {
            let facts = facts(index, &adapter);
            (adapter, facts)
        })
        .filter(|(_, facts)| backends.is_none_or(|backends| backends.contains(&facts.backend)))
        .collect();
    let names: Vec<_> =
        all.iter().map(|(_, facts)| format!("{} '{}' ({})", facts.index, facts.name, facts.kind)).collect();
    if names.is_empty() && backends.is_some_and(|_| !adapters().is_empty()) {
        let asked = backends.unwrap_or_default().join(", ");
        let had: Vec<_> =
            adapters().iter().map(|facts| format!("'{}' ({})", facts.name, facts.backend)).collect();
        return Err(Error::Unavailable(format!(
            "gpu: no adapter through {asked}; there are {}",
            had.join(", ")
        )));
    }
    if names.is_empty() {
        let message =
            "gpu: no adapter; install a Vulkan driver (on Debian mesa-vulkan-drivers), or use the CPU";
        return Err(Error::Unavailable(message.to_owned()));
    }
    let place = match wanted {
        None => all.iter().position(|(_, facts)| allow_software || facts.kind != "software"),
        Some(wanted) => all.iter().position(|(_, facts)| {
            wanted.parse() == Ok(facts.index) || facts.name.to_lowercase().contains(&wanted.to_lowercase())
        }),
    };
    let list = names.join(", ");
    match (place, wanted) {
        (Some(place), _) => Ok(all.swap_remove(place)),
        (None, Some(wanted)) => {
            Err(Error::Unavailable(format!("gpu: no adapter '{wanted}'; use one of {list}")))
        }
        (None, None) => Err(Error::Unavailable(format!(
            "gpu: there is only software ({list}); use allow_software=True or name it, in the call or by LOGITSCOPE_GPU_ADAPTER"
        ))),
    }
}

fn instance() -> &'static Instance {
    static INSTANCE: OnceLock<Instance> = OnceLock::new();
    INSTANCE.get_or_init(|| {
        Instance::new(InstanceDescriptor {
            backends: Backends::VULKAN | Backends::METAL | Backends::DX12,
            flags: InstanceFlags::empty(),
            ..InstanceDescriptor::new_without_display_handle()
        })
    })
}

fn found() -> Vec<Adapter> {
    let mut all = pollster::block_on(instance().enumerate_adapters(Backends::all()));
    all.sort_by_key(|adapter| rank(adapter.get_info().device_type));
    all
}

fn rank(kind: DeviceType) -> u8 {
    match kind {
        DeviceType::DiscreteGpu => 0,
        DeviceType::IntegratedGpu => 1,
        DeviceType::VirtualGpu => 2,
        DeviceType::Other => 3,
        DeviceType::Cpu => 4,
    }
}

fn facts(index: usize, adapter: &Adapter) -> AdapterFacts {
    let (info, features, limits) = (adapter.get_info(), adapter.features(), adapter.limits());
    let names = [("f16", Features::SHADER_F16), ("subgroups", Features::SUBGROUP)];
    AdapterFacts {
        index,
        name: info.name,
        backend: info.backend.to_string(),
        kind: match info.device_type {
            DeviceType::DiscreteGpu => "discrete",
            DeviceType::IntegratedGpu => "integrated",
            DeviceType::VirtualGpu => "virtual",
            DeviceType::Cpu => "software",
            DeviceType::Other => "other",
        },
        driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
        features: names.iter().filter(|(_, one)| features.contains(*one)).map(|&(name, _)| name).collect(),
        limits: vec![
            ("binding_bytes", limits.max_storage_buffer_binding_size),
            ("buffer_bytes", limits.max_buffer_size),
            ("workgroup_bytes", u64::from(limits.max_compute_workgroup_storage_size)),
            ("workgroup_threads", u64::from(limits.max_compute_invocations_per_workgroup)),
            ("storage_buffers", u64::from(limits.max_storage_buffers_per_shader_stage)),
            ("subgroup_min", u64::from(info.subgroup_min_size)),
            ("subgroup_max", u64::from(info.subgroup_max_size)),
        ],
    }
}
