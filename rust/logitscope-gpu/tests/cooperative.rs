//! Attention through cooperative matrices: its shaders become SPIR-V, and everything in them but the cooperative matrices
//! themselves gives what the plain kernel gives.
#![cfg(feature = "cooperative-matrix")]

use logitscope_gpu::{
    Attention, AttentionOptions, Device, Dropout, Error, Format, MOMENTS, Matrices, STATE, Settings, Shape,
    Tensor, convert, every_variant,
};
use naga::back::spv;
use naga::valid::{Capabilities, SubgroupOperationSet, ValidationFlags, Validator};
use std::process::Command;

#[test]
fn every_variant_with_cooperative_matrices_becomes_spirv() {
    let mut validates = Command::new("spirv-val").arg("--version").output().is_ok();
    let mut seen = 0;
    for variant in every_variant().iter().filter(|variant| variant.shader == "attention_cooperative") {
        let source = variant.source();
        let module = naga::front::wgsl::parse_str(&source).expect("a module");
        let capabilities =
            Capabilities::SHADER_FLOAT16 | Capabilities::SUBGROUP | Capabilities::COOPERATIVE_MATRIX;
        let mut validator = Validator::new(ValidationFlags::all(), capabilities);
        validator.subgroup_stages(naga::valid::ShaderStages::COMPUTE);
        validator.subgroup_operations(SubgroupOperationSet::all());
        let info = validator.validate(&module).expect("a valid module");
        let options = spv::Options { lang_version: (1, 4), ..spv::Options::default() };
        let words = spv::write_vec(&module, &info, &options, None).expect("SPIR-V");
        assert!(words.iter().any(|word| word & 0xffff == 4459), "no OpCooperativeMatrixMulAddKHR");
        if validates && seen % 8 == 0 {
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            let path = std::env::temp_dir().join(format!("logitscope-{}-{seen}.spv", std::process::id()));
            std::fs::write(&path, bytes).expect("a file");
            let answer = Command::new("spirv-val").args(["--target-env", "vulkan1.3"]).arg(&path).output();
            std::fs::remove_file(&path).expect("the file");
            let answer = answer.expect("an answer");
            let said = String::from_utf8_lossy(&answer.stderr);
            // Versions before 2023.3 do not know cooperative matrices.
            if said.contains("Invalid capability operand") {
                eprintln!("skipped: spirv-val is too old: {said}");
                validates = false;
            } else {
                assert!(answer.status.success(), "{variant:?}\n{said}");
            }
        }
        seen += 1;
    }
    assert!(seen > 20, "{seen} variants");
}

/// A device, or none where there is none and none is demanded.
fn device(matrices: Option<Matrices>) -> Option<Device> {
    let settings = Settings { allow_software: true, ..Settings::default() };
    match Device::open(&settings) {
        Ok(mut device) => {
            device.use_matrices(matrices);
            Some(device)
        }
        Err(Error::Unavailable(message)) if std::env::var("LOGITSCOPE_REQUIRE_GPU").as_deref() != Ok("1") => {
            eprintln!("skipped: {message}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// Numbers between -1 and 1, from a linear congruential generator; of `spoilt` the last is NaN.
fn numbers(device: &Device, count: usize, seed: u32, spoilt: bool) -> Tensor {
    let mut state = seed;
    let mut all: Vec<f32> = (0..count)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / 8_388_608.0 - 1.0
        })
        .collect();
    if spoilt {
        all[count - 1] = f32::NAN;
    }
    let bytes: Vec<u8> = all.iter().flat_map(|number| number.to_le_bytes()).collect();
    let tensor = device.upload(&bytes, Format::F32).expect("an upload");
    convert(device, &tensor, Format::F16).expect("float16")
}

fn read(device: &Device, tensor: &Tensor) -> Vec<f32> {
    let tensor = convert(device, tensor, Format::F32).expect("float32");
    let mut bytes = vec![0; tensor.len() * 4];
    device.download(&tensor, &mut bytes, &mut || true).expect("a download");
    bytes.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().expect("four bytes"))).collect()
}

/// Output, statistics and moments of the rows of two batch elements; the second has 20 real keys, and what follows may be NaN.
fn attention(device: &Device, dims: [usize; 2], options: AttentionOptions, spoilt: bool) -> [Vec<f32>; 3] {
    let [dim, value_dim] = dims;
    let (batch, heads, key_heads, queries, keys) = (2, 4, 2, 37, 70);
    let mut aside = vec![0.0_f32; 3 * heads];
    aside.extend([queries as f32, keys as f32, queries as f32, 20.0]);
    let bytes: Vec<u8> = aside.iter().flat_map(|number| number.to_le_bytes()).collect();
    let inputs = Attention {
        q: numbers(device, batch * heads * queries * dim, 1, false),
        k: numbers(device, batch * key_heads * keys * dim, 2, spoilt),
        v: numbers(device, batch * key_heads * keys * value_dim, 3, spoilt),
        shape: Shape { batch, heads, key_heads, queries, keys, dim, value_dim },
        aside: device.upload(&bytes, Format::F32).expect("an upload"),
        bias: None,
        options,
    };
    // With moments it is another kernel, whose output is that of the one without.
    let [without, output] = [false, true].map(|moments| inputs.forward(device, moments).expect("attention"));
    let [out, state] = [&output.out, &output.state].map(|tensor| read(device, tensor));
    let bits = |numbers: &[f32]| numbers.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&read(device, &without.out)), bits(&out), "{dims:?} {options:?}");
    assert_eq!(bits(&read(device, &without.state)), bits(&state), "{dims:?} {options:?}");
    [out, state, read(device, output.moments.as_ref().expect("moments"))]
}

#[test]
fn the_kernel_with_loops_for_matrices_gives_what_the_plain_one_gives() {
    assert_agrees(Matrices::Software);
}

#[test]
fn the_kernel_with_cooperative_matrices_gives_what_the_plain_one_gives() {
    let settings = Settings { allow_software: true, ..Settings::default() };
    let offered = Device::open(&settings).ok().and_then(|device| device.matrices());
    if let Some(matrices) = offered {
        assert!(matches!(matrices, Matrices::Cooperative { .. }));
        assert_agrees(matrices);
    } else {
        assert_ne!(std::env::var("LOGITSCOPE_REQUIRE_MATRICES").as_deref(), Ok("1"), "none are offered");
        eprintln!("skipped: no adapter with cooperative matrices of float16");
    }
}

/// Compares what a kernel gives with the plain one, for many options.
fn assert_agrees(matrices: Matrices) {
    let (Some(plain), Some(matrices)) = (device(None), device(Some(matrices))) else {
        return;
    };
    if !plain.has_f16() {
        eprintln!("skipped: {} stores no float16", plain.facts().name);
        return;
    }
    let usual = AttentionOptions {
        scale: 0.3,
        softcap: 0.0,
        window: (None, None),
        bottom_right: true,
        temperature: false,
        sinks: false,
        sigmoid: false,
        auto_row: false,
        empty_is_nan: false,
        dropout: None,
    };
    let causal = AttentionOptions { window: (None, Some(0)), ..usual };
    let all = [
        usual,
        causal,
        AttentionOptions { window: (Some(5), Some(3)), bottom_right: false, sinks: true, ..usual },
        AttentionOptions { sigmoid: true, softcap: 2.0, ..causal },
        AttentionOptions { dropout: Some(Dropout { rate: 0.4, seed: 9 }), ..causal },
    ];
    for dims in [[16, 16], [40, 64], [80, 24], [128, 128]] {
        for options in all {
            for spoilt in [false, true] {
                let [out, state, moments] = attention(&plain, dims, options, spoilt);
                let [found, found_state, found_moments] = attention(&matrices, dims, options, spoilt);
                // The last keys of the first batch element are real: a NaN there reaches the rows that see it.
                let classes = |numbers: &[f32]| numbers.iter().map(|x| x.is_nan()).collect::<Vec<_>>();
                assert_eq!(classes(&found), classes(&out), "{dims:?} {options:?}");
                assert_eq!(classes(&found_moments), classes(&moments), "{dims:?} {options:?}");
                // Weights are rounded to float16: the error grows with their sum, which is some 35 for the sigmoid.
                let tolerance = if options.sigmoid { 6e-3 } else { 2e-3 };
                let differ = |a: f32, b: f32, tolerance: f32| (a - b).abs() > tolerance * b.abs().max(1.0);
                let worst = found.iter().zip(&out).find(|&(&a, &b)| differ(a, b, tolerance));
                assert_eq!(worst, None, "{dims:?} {options:?}");
                assert_eq!(found_state.len(), out.len() / dims[1] * STATE);
                let worst = found_state.iter().zip(&state).find(|&(&a, &b)| differ(a, b, 1e-4));
                assert_eq!(worst, None, "{dims:?} {options:?}");
                assert_eq!(found_moments.len(), out.len() / dims[1] * MOMENTS);
                let worst = found_moments.iter().zip(&moments).find(|&(&a, &b)| differ(a, b, 1e-4));
                assert_eq!(worst, None, "{dims:?} {options:?}");
            }
        }
    }
}
