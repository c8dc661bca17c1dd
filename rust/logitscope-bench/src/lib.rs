//! What the benches of all operations share: the instruction sets, and sizes from the first cache to beyond the last.
//!
//! `cargo bench -p logitscope-bench` runs them on one thread; what follows `--` selects by name, such as `softmax/avx2`.

use logitscope_simd::Isa;
use std::fs;

/// Where Linux tells of the caches.
const CACHES: &str = "/sys/devices/system/cpu/cpu0/cache";

/// Bytes of the data caches of many CPUs, for systems that do not tell.
const USUAL: [usize; 3] = [32 << 10, 1 << 20, 32 << 20];

/// The number that a text such as `32K` stands for.
fn bytes(text: &str) -> Option<usize> {
    let (number, unit) = match text.strip_suffix(['K', 'M']) {
        Some(number) if text.ends_with('K') => (number, 1 << 10),
        Some(number) => (number, 1 << 20),
        None => (text, 1),
    };
    number.parse::<usize>().ok().map(|number| number * unit)
}

/// Bytes of the data caches, nearest first.
fn caches() -> Vec<usize> {
    let read = |index: usize, name: &str| fs::read_to_string(format!("{CACHES}/index{index}/{name}"));
    let sizes = (0..8).filter_map(|index| {
        let kind = read(index, "type").ok()?;
        if kind.trim() == "Instruction" { None } else { bytes(read(index, "size").ok()?.trim()) }
    });
    let mut sizes: Vec<_> = sizes.collect();
    if sizes.is_empty() {
        sizes.extend(USUAL);
    }
    sizes.sort_unstable();
    sizes
}

/// Sizes of arrays in bytes: a quarter of each cache, so that an array and a result fit, and four times the last.
pub fn sizes() -> Vec<usize> {
    let caches = caches();
    let beyond = caches.last().map(|last| 4 * last);
    caches.iter().map(|cache| cache / 4).chain(beyond).collect()
}

/// Runs `measure` with each vector instruction set of this CPU in use, the widest last.
///
/// # Panics
/// If `measure` does.
pub fn each_vector_isa(mut measure: impl FnMut(Isa)) {
    for isa in Isa::available() {
        if isa != Isa::Scalar {
            Isa::select(isa.name()).expect("an available instruction set can be selected");
            measure(isa);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_linux_writes_them() {
        assert_eq!(bytes("32K"), Some(32 << 10));
        assert_eq!(bytes("2M"), Some(2 << 20));
        assert_eq!(bytes("64"), Some(64));
        assert_eq!(bytes("?"), None);
    }

    #[test]
    fn sizes_grow_from_the_first_cache_to_beyond_the_last() {
        let sizes = sizes();
        assert!(sizes.len() >= 2 && sizes.is_sorted());
        assert!(sizes[0] >= 4 << 10 && sizes[sizes.len() - 1] >= 4 << 20);
    }
}
