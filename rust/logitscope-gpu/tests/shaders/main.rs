//! Every variant of every shader is checked without a device: by naga, and for what naga does not check.

mod uniformity;

use logitscope_gpu::{Variant, every_variant};
use naga::valid::{Capabilities, ModuleInfo, SubgroupOperationSet, ValidationFlags, Validator};
use naga::{AddressSpace, Module, StorageAccess};

fn parsed(variant: &Variant) -> (Module, ModuleInfo) {
    let source = variant.source();
    let module = naga::front::wgsl::parse_str(&source)
        .unwrap_or_else(|error| panic!("{variant:?}\n{}", error.emit_to_string(&source)));
    let capabilities =
        Capabilities::SHADER_FLOAT16 | Capabilities::SUBGROUP | Capabilities::COOPERATIVE_MATRIX;
    let mut validator = Validator::new(ValidationFlags::all(), capabilities);
    validator.subgroup_stages(naga::valid::ShaderStages::COMPUTE);
    validator.subgroup_operations(SubgroupOperationSet::all());
    let info = validator
        .validate(&module)
        .unwrap_or_else(|error| panic!("{variant:?}\n{}", error.emit_to_string(&source)));
    (module, info)
}

#[test]
fn every_variant_is_valid() {
    for variant in every_variant() {
        let (module, _) = parsed(&variant);
        let entries: Vec<_> = module.entry_points.iter().map(|entry| entry.name.as_str()).collect();
        assert_eq!(entries, ["main"], "{variant:?}");
    }
}

#[test]
fn variants_say_what_workgroup_memory_they_need() {
    for variant in every_variant() {
        let (module, _) = parsed(&variant);
        let mut layouter = naga::proc::Layouter::default();
        layouter.update(module.to_ctx()).expect("types have sizes");
        let shared = module.global_variables.iter().filter(|(_, one)| one.space == AddressSpace::WorkGroup);
        let bytes: u32 = shared.map(|(_, one)| layouter[one.ty].size).sum();
        assert_eq!(bytes, variant.workgroup_bytes, "{}", variant.shader);
        assert!(bytes <= 32 << 10, "{} needs {bytes} bytes", variant.shader);
    }
}

#[test]
fn variants_say_which_buffers_they_write() {
    for variant in every_variant() {
        let (module, _) = parsed(&variant);
        let mut writes = vec![None; variant.writes.len()];
        for (_, variable) in module.global_variables.iter() {
            if let AddressSpace::Storage { access } = variable.space {
                let binding = variable.binding.expect("a binding").binding as usize;
                writes[binding - 1] = Some(access.contains(StorageAccess::STORE));
            }
        }
        for (binding, (found, said)) in writes.iter().zip(&variant.writes).enumerate() {
            assert_eq!(found.unwrap_or(*said), *said, "{} binding {}", variant.shader, binding + 1);
        }
    }
}

#[test]
fn barriers_are_reached_by_all_threads_or_none() {
    for variant in every_variant() {
        let (module, _) = parsed(&variant);
        let found = uniformity::divergent_barriers(&module);
        assert!(found.is_empty(), "{}: {found:?}", variant.shader);
    }
}

#[test]
fn a_barrier_that_some_threads_miss_is_found() {
    let head = "var<workgroup> w: u32; @group(0) @binding(0) var<uniform> n: u32;
        @compute @workgroup_size(64) fn main(@builtin(local_invocation_index) t: u32, @builtin(workgroup_id) g: vec3<u32>) {";
    let cases = [
        ("if (t < 3u) { workgroupBarrier(); }", false),
        ("if (g.x < n) { workgroupBarrier(); }", true),
        ("if (t > 5u) { return; } workgroupBarrier();", false),
        ("if (g.x > 5u) { return; } workgroupBarrier();", true),
        ("for (var i = 0u; i < t; i++) { workgroupBarrier(); }", false),
        ("for (var i = 0u; i < n; i++) { workgroupBarrier(); }", true),
        ("for (var i = 0u; i < n; i++) { if (t == i) { break; } workgroupBarrier(); }", false),
        ("for (var i = 0u; i < n; i++) { if (workgroupUniformLoad(&w) == 0u) { break; } }", true),
        ("var i = 0u; if (t > 1u) { i = 1u; } if (i == 0u) { workgroupBarrier(); }", false),
        ("if (w == 0u) { workgroupBarrier(); }", false),
    ];
    for (body, fine) in cases {
        let module = naga::front::wgsl::parse_str(&format!("{head} {body} }}")).expect(body);
        assert_eq!(uniformity::divergent_barriers(&module).is_empty(), fine, "{body}");
    }
}

#[test]
fn only_guarded_functions_call_exp_log_and_tanh() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shaders");
    let files = [folder.to_owned(), format!("{folder}/shared")];
    let mut seen = 0;
    for entry in files.iter().flat_map(|folder| std::fs::read_dir(folder).expect("the folder of shaders")) {
        let path = entry.expect("a file").path();
        if path.extension().is_none_or(|extension| extension != "wgsl") || path.ends_with("numbers.wgsl") {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("a text");
        seen += 1;
        for call in ["exp(", "exp2(", "log(", "log2(", "tanh(", "pow("] {
            let naked = text.match_indices(call).any(|(at, _)| {
                !text[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_')
            });
            assert!(!naked, "{} calls {call}); use a function of shared/numbers.wgsl", path.display());
        }
    }
    assert!(seen > 15);
}
