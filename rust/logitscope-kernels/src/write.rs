//! Sweeps over a row that write one, as macros.
//!
//! Functions would take closures, and closures cannot be marked `#[inline(always)]`: one that is not inlined is compiled
//! without the instruction set.

/// Writes a value over the elements of a row: `write_row!(simd, out, x in row => value of x)`, for one row or two;
/// `write_row!(simd, store_stream, ...)` writes one past the caches. They are rows of `T`.
macro_rules! write_row {
    ($simd:ident, $out:expr, $x:ident in $row:expr => $value:expr) => {
        $crate::write::write_row!($simd, store, $out, $x in $row => $value)
    };
    ($simd:ident, $store:ident, $out:expr, $x:ident in $row:expr => $value:expr) => {{
        let (packs, tail) = T::packs($row);
        let (out_packs, out_tail) = T::packs_mut($out);
        for (pack, out) in packs.iter().zip(out_packs) {
            let $x = T::load($simd, pack);
            T::$store($simd, $value, out);
        }
        if !tail.is_empty() {
            let $x = T::load_partial($simd, tail, Element::from_f64(0.0));
            T::store_partial($simd, $value, out_tail);
        }
    }};
    ($simd:ident, $out:expr, $a:ident in $first:expr, $b:ident in $second:expr => $value:expr) => {{
        let ((a_blocks, a_tail), (b_blocks, b_tail)) = (T::blocks($first), T::blocks($second));
        let (out_blocks, out_tail) = T::blocks_mut($out);
        for ((a, b), out) in a_blocks.iter().zip(b_blocks).zip(out_blocks) {
            let ($a, $b) = ($simd.load(a), $simd.load(b));
            $simd.store($value, out);
        }
        if !a_tail.is_empty() {
            let ($a, $b) = ($simd.load_partial(a_tail, T::ZERO), $simd.load_partial(b_tail, T::ZERO));
            $simd.store_partial($value, out_tail);
        }
    }};
}

/// As [`write_row`] of one row, two vectors at a time; no value may be a denormal, which could become 0.
macro_rules! write_two {
    ($simd:ident, $out:expr, $x:ident in $row:expr => $value:expr) => {{
        let (row, out) = ($row, $out);
        let (packs, out_packs) = (T::packs(row).0, T::packs_mut(&mut *out).0);
        let (pairs, out_pairs) = (packs.as_chunks::<2>().0, out_packs.as_chunks_mut::<2>().0);
        for ([a, b], out) in pairs.iter().zip(out_pairs) {
            let $x = T::load($simd, a);
            let low = $value;
            let $x = T::load($simd, b);
            T::store_two($simd, [low, $value], out);
        }
        let done = pairs.len() * 2 * <T::Wide as Element>::LANES;
        $crate::write::write_row!($simd, &mut out[done..], $x in &row[done..] => $value);
    }};
}

/// Changes the elements of a row where it lies: `update_row!(simd, out, old, x in row => value of old and x)`.
macro_rules! update_row {
    ($simd:ident, $out:expr, $old:ident, $x:ident in $row:expr => $value:expr) => {{
        let (blocks, tail) = T::blocks($row);
        let (out_blocks, out_tail) = T::blocks_mut($out);
        for (block, out) in blocks.iter().zip(out_blocks) {
            let ($old, $x) = ($simd.load(out), $simd.load(block));
            $simd.store($value, out);
        }
        if !tail.is_empty() {
            let ($old, $x) = ($simd.load_partial(out_tail, T::ZERO), $simd.load_partial(tail, T::ZERO));
            $simd.store_partial($value, out_tail);
        }
    }};
}

pub(crate) use {update_row, write_row, write_two};
