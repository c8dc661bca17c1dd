//! The text of a shader: its file, the shared pieces that it uses, and the constants of a variant.

use crate::tensor::Format;
use crate::{attention, cross_entropy, gather, linear_cross_entropy, matmul, multiply_adds, rows, transpose};
use std::fmt::Write;

macro_rules! texts {
    ($($name:literal),+ $(,)?) => {
        &[$(($name, include_str!(concat!("../../../shaders/", $name, ".wgsl")))),+]
    };
}

/// Every file by its name.
const TEXTS: &[(&str, &str)] = texts![
    "attention",
    "attention_backward_bias",
    "attention_backward_k",
    "attention_backward_q",
    "attention_far",
    "attention_far_rows",
    "attention_map",
    "attention_rows",
    "attention_top_keys",
    "cross_entropy",
    "entmax15",
    "entmax15_backward",
    "linear_cross_entropy_filter",
    "linear_cross_entropy_fold",
    "linear_cross_entropy_gradient",
    "linear_cross_entropy_rows",
    "linear_cross_entropy_targets",
    "log_softmax",
    "log_softmax_backward",
    "log_stablemax",
    "log_stablemax_backward",
    "logsumexp",
    "logsumexp_backward",
    "losses",
    "matmul",
    "multiply_adds",
    "narrow",
    "softmax",
    "softmax_backward",
    "sparsemax",
    "sparsemax_backward",
    "stablemax",
    "stablemax_backward",
    "transpose",
    "value_gate",
    "value_gate_backward",
    "widen",
    "shared/attention",
    "shared/attention_block",
    "shared/attention_dropout",
    "shared/attention_far",
    "shared/attention_far_tops",
    "shared/attention_forward",
    "shared/attention_gradient",
    "shared/attention_moments",
    "shared/attention_products",
    "shared/attention_tiles",
    "shared/call",
    "shared/exponentials",
    "shared/format_f16",
    "shared/format_f32",
    "shared/gather",
    "shared/growth",
    "shared/largest",
    "shared/links",
    "shared/loss",
    "shared/loss_state",
    "shared/loss_sums",
    "shared/moments",
    "shared/numbers",
    "shared/reduce_subgroup",
    "shared/reduce_tree",
    "shared/rows",
    "shared/sparse",
    "shared/sparse_backward",
    "shared/value_gate",
];

/// Those that take cooperative matrices, and what stands in for those in tests.
#[cfg(feature = "cooperative-matrix")]
const OF_MATRICES: &[(&str, &str)] = texts![
    "attention_cooperative",
    "attention_matrices",
    "shared/attention_matrices",
    "shared/matrices_16",
    "shared/matrices_8",
    "shared/matrices_cooperative",
    "shared/matrices_software",
];
#[cfg(not(feature = "cooperative-matrix"))]
const OF_MATRICES: &[(&str, &str)] = &[];

/// How the threads of a workgroup add up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reduction {
    /// A tree in workgroup memory; everywhere.
    Tree,
    /// Through subgroups, where a device has them.
    Subgroup,
}

/// A shader with its constants.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Variant {
    /// The stem of its file.
    pub shader: &'static str,
    /// How the tensors are stored.
    pub format: Format,
    /// How threads add up.
    pub reduction: Reduction,
    /// Constants by name.
    pub constants: Vec<(&'static str, u32)>,
    /// Bytes of workgroup memory that it declares.
    pub workgroup_bytes: u32,
    /// Which of its storage buffers it writes.
    pub writes: Vec<bool>,
}

impl Variant {
    /// The whole text.
    pub fn source(&self) -> String {
        let mut text = String::new();
        for (name, value) in &self.constants {
            let _ = writeln!(text, "const {name}: u32 = {value}u;");
        }
        self.append(self.shader, &mut text, &mut Vec::new());
        // What a piece enables comes before everything else.
        let (enabled, rest): (Vec<_>, Vec<_>) = text.lines().partition(|line| line.starts_with("enable "));
        enabled.into_iter().chain(rest).fold(String::new(), |text, line| text + line + "\n")
    }

    fn constant(&self, name: &str) -> u32 {
        let found = self.constants.iter().find(|(known, _)| *known == name);
        found.unwrap_or_else(|| panic!("no constant '{name}' of {}", self.shader)).1
    }

    fn append(&self, name: &str, text: &mut String, used: &mut Vec<String>) {
        for line in file(name).lines() {
            let Some(piece) = line.strip_prefix("#use ") else {
                text.push_str(line);
                text.push('\n');
                continue;
            };
            let name = match (piece, self.format, self.reduction) {
                ("format", Format::F32, _) => "shared/format_f32".to_owned(),
                ("format", Format::F16, _) => "shared/format_f16".to_owned(),
                ("reduce", _, Reduction::Tree) => "shared/reduce_tree".to_owned(),
                ("reduce", _, Reduction::Subgroup) => "shared/reduce_subgroup".to_owned(),
                ("side", _, _) => format!("shared/matrices_{}", self.constant("SIDE")),
                _ => format!("shared/{piece}"),
            };
            if !used.contains(&name) {
                used.push(name.clone());
                self.append(&name, text, used);
            }
        }
    }
}

fn file(name: &str) -> &'static str {
    let found = TEXTS.iter().chain(OF_MATRICES).find(|(known, _)| *known == name);
    found.unwrap_or_else(|| panic!("no shader '{name}' in the list of texts")).1
}

/// Every variant that the runners may ask for.
pub fn every_variant() -> Vec<Variant> {
    let mut all = linear_cross_entropy::variants();
    all.push(matmul::variant());
    all.push(multiply_adds::variant());
    for format in [Format::F32, Format::F16] {
        all.push(transpose::variant(format));
        all.extend(attention::variants(format));
        all.extend(rows::variants(format));
        all.extend(cross_entropy::variants(format));
        all.extend(gather::variants(format));
    }
    all
}
