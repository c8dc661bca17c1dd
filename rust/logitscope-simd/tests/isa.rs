//! The instruction set in use and how it is forced.

use logitscope_simd::{Element, Isa, Kernel, Simd};
use logitscope_testing::each_isa;
use std::process::Command;

struct Name;

impl Kernel<f32> for Name {
    type Output = &'static str;

    #[inline(always)]
    fn run<S: Simd<f32>>(self, _: S) -> &'static str {
        S::ISA.name()
    }
}

#[test]
fn a_kernel_runs_on_the_instruction_set_in_use() {
    each_isa(|isa| {
        assert_eq!(Isa::current(), isa);
        assert_eq!(f32::dispatch(Name), isa.name());
    });
}

#[test]
fn the_available_instruction_sets_are_ordered_and_start_with_scalar() {
    let available = Isa::available();
    assert_eq!(available[0], Isa::Scalar);
    assert!(available.is_sorted());
}

#[test]
fn an_instruction_set_the_cpu_lacks_is_refused_by_name() {
    let names: Vec<_> = Isa::available().iter().map(|isa| isa.name()).collect();
    let missing = if cfg!(target_arch = "aarch64") { "avx2" } else { "neon" };
    for name in [missing, "sse9"] {
        let message = Isa::select(name).unwrap_err().to_string();
        let want =
            format!("LOGITSCOPE_ISA: '{name}' cannot be used here; this CPU runs {}", names.join(", "));
        assert_eq!(message, want);
    }
}

/// Runs in a process of its own: prints what `initialise` makes of the variable.
#[test]
#[ignore = "started by the test below"]
fn print_initialised() {
    match Isa::initialise() {
        Ok(isa) => println!("chose {}", isa.name()),
        Err(error) => println!("refused: {error}"),
    }
}

#[test]
fn the_environment_variable_forces_an_instruction_set() {
    let output_with = |value: &str| {
        let this = std::env::current_exe().expect("a running test has a file");
        let arguments = ["--ignored", "--exact", "--nocapture", "print_initialised"];
        let output = Command::new(this).args(arguments).env("LOGITSCOPE_ISA", value).output();
        String::from_utf8_lossy(&output.expect("the test starts again").stdout).into_owned()
    };
    assert!(output_with("scalar").contains("chose scalar"));
    assert!(output_with("mmx").contains("refused: LOGITSCOPE_ISA: 'mmx' cannot be used here"));
    let widest = Isa::available().pop().expect("scalar at least").name();
    assert!(output_with("").contains(&format!("chose {widest}")));
}
