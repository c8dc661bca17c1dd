//! Attention of float16 through cooperative matrices, whose products a subgroup makes at once. `wgpu` calls them experimental.
//! Mesa's software driver has run these shaders, no card yet.

use super::tiles::{FORWARD_WRITES, Tiles, with_moments};
use crate::shader::Variant;
use crate::tensor::Format;
use wgpu::{Adapter, CooperativeScalarType, DeviceDescriptor, ExperimentalFeatures, Features};

/// Threads of a row.
const THREADS: u32 = 8;

/// What makes the products of float16 attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Matrices {
    /// Cooperative matrices of `side` rows and columns, by subgroups of at most so many threads.
    Cooperative {
        /// 8 or 16.
        side: u32,
        /// Threads of the largest subgroup.
        subgroup: u32,
    },
    /// Loops that compute the same: for tests of everything else.
    Software,
}

impl Matrices {
    /// What an adapter must have for them.
    const FEATURES: Features =
        Features::EXPERIMENTAL_COOPERATIVE_MATRIX.union(Features::SHADER_F16).union(Features::SUBGROUP);

    /// The largest cooperative matrices of float16 with sums of float32 that an adapter has, if it has some.
    pub(crate) fn of(adapter: &Adapter) -> Option<Self> {
        if !adapter.features().contains(Self::FEATURES) {
            return None;
        }
        let all = adapter.cooperative_matrix_properties();
        let side = [16, 8].into_iter().find(|&side| {
            all.iter().any(|one| {
                [one.m_size, one.n_size, one.k_size] == [side; 3]
                    && one.ab_type == CooperativeScalarType::F16
                    && one.cr_type == CooperativeScalarType::F32
            })
        })?;
        Some(Self::Cooperative { side, subgroup: adapter.get_info().subgroup_max_size.max(1) })
    }

    /// The description of a device that has them.
    #[allow(unsafe_code, reason = "wgpu asks to acknowledge that a feature is experimental")]
    pub(crate) fn asked_for(descriptor: DeviceDescriptor<'_>) -> DeviceDescriptor<'_> {
        DeviceDescriptor {
            required_features: descriptor.required_features | Self::FEATURES,
            // SAFETY: who builds with this crate's feature acknowledges that faults of wgpu's experimental feature may be
            // reached from here; without it none is enabled.
            experimental_features: unsafe { ExperimentalFeatures::enabled() },
            ..descriptor
        }
    }

    /// The kernel for heads of a size, where workgroup memory has room for one.
    pub(super) fn kernel(self, size: u32, limit: u32, moments: bool) -> Option<(Tiles, Variant)> {
        let (shader, side) = match self {
            Self::Cooperative { side, .. } => ("attention_cooperative", side),
            Self::Software => ("attention_matrices", 8),
        };
        let shapes = [(32, 32), (16, 32), (16, 16), (8, 16), (8, 8)];
        let fitting = shapes.into_iter().filter(|(own, seen)| own % side == 0 && seen % side == 0);
        let mut tiles = fitting.map(|(own, seen)| Tiles::new(size, own, seen, THREADS));
        let tiles = tiles.find(|&tiles| tiles.matrices_bytes() <= limit)?;
        let variant = tiles.variant(shader, Format::F16, Tiles::matrices_bytes, &FORWARD_WRITES);
        let mut variant = with_moments(variant, moments);
        if let Self::Cooperative { side, subgroup } = self {
            let subgroups = (tiles.own * THREADS / subgroup).max(1);
            variant.constants.extend([("SIDE", side), ("SUBGROUPS", subgroups)]);
        }
        Some((tiles, variant))
    }
}

/// Every variant that may be asked for, for devices with little and with more workgroup memory.
pub(super) fn variants(sizes: &[u32]) -> Vec<Variant> {
    let cooperative = [8, 16]
        .into_iter()
        .flat_map(|side| [8, 32, 64].map(|subgroup| Matrices::Cooperative { side, subgroup }));
    let all = cooperative.chain([Matrices::Software]);
    all.flat_map(|matrices| {
        sizes.iter().flat_map(move |&size| {
            let settings = [(16 << 10, false), (32 << 10, false), (32 << 10, true)].into_iter();
            settings.filter_map(move |(limit, moments)| matrices.kernel(size, limit, moments))
        })
    })
    .map(|(_, variant)| variant)
    .collect()
}
