//! The product of tiles: up to 32 rows by 32 columns stay in registers while the depth goes by.

use crate::tiles::TileProduct;
use std::arch::asm;

/// One product as assembly: how the sums begin, a step of 16 pairs of the depth, and where the sums go.
macro_rules! multiply {
    ($product:ident, [$($load:literal),+], [$($clear:literal),+], [$($step:literal),+], [$($store:literal),+], $($second:tt)*) => {
        // SAFETY: `TileProduct::check` has found all rows of all tiles within the slices, and the caller holds a token
        // of configured tiles. What the assembly changes is named: `c`, the tiles and registers that it is given.
        unsafe {
            asm!(
                "test {adds}, {adds}",
                "jz 2f",
                $($load,)+
                "jmp 3f",
                "2:",
                $($clear,)+
                "3:",
                $($step,)+
                "add {a}, 64",
                "add {b}, {b_step}",
                "dec {depth}",
                "jnz 3b",
                $($store,)+
                adds = in(reg) usize::from($product.adds),
                a = inout(reg) $product.a.as_ptr() => _,
                a_row = in(reg) 4 * $product.a_stride,
                b = inout(reg) $product.b.as_ptr() => _,
                b_row = in(reg) 64 * $product.b_width,
                b_step = in(reg) 16 * 64 * $product.b_width,
                c = in(reg) $product.c.as_mut_ptr(),
                c_row = in(reg) 64 * $product.c_width,
                depth = inout(reg) $product.depth => _,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
                $($second)*
            );
        }
    };
}

/// The sums are tiles 0 to 3, row after row; 4 and 5 are of `a`, 6 and 7 of `b`. A tile of both factors is loaded once
/// for two products: the loads of four then take half the time that their products take.
///
/// # Safety
/// This thread must have [`super::Tiles`].
pub(in crate::arch) unsafe fn multiply_tiles(product: &mut TileProduct<'_, f32>) {
    product.check();
    let (second_a, second_c) = (16 * product.a_stride, 16 * product.c_width);
    match (product.row_tiles, product.column_tiles) {
        (1, 1) => multiply!(
            product,
            ["tileloadd tmm0, [{c} + {c_row}*1]"],
            ["tilezero tmm0"],
            [
                "tileloadd tmm4, [{a} + {a_row}*1]",
                "tileloadd tmm6, [{b} + {b_row}*1]",
                "tdpbf16ps tmm0, tmm4, tmm6"
            ],
            ["tilestored [{c} + {c_row}*1], tmm0"],
        ),
        (1, 2) => multiply!(
            product,
            ["tileloadd tmm0, [{c} + {c_row}*1]", "tileloadd tmm1, [{c} + {c_row}*1 + 64]"],
            ["tilezero tmm0", "tilezero tmm1"],
            [
                "tileloadd tmm4, [{a} + {a_row}*1]",
                "tileloadd tmm6, [{b} + {b_row}*1]",
                "tileloadd tmm7, [{b} + {b_row}*1 + 64]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tdpbf16ps tmm1, tmm4, tmm7"
            ],
            ["tilestored [{c} + {c_row}*1], tmm0", "tilestored [{c} + {c_row}*1 + 64], tmm1"],
        ),
        (2, 1) => multiply!(
            product,
            ["tileloadd tmm0, [{c} + {c_row}*1]", "tileloadd tmm2, [{second_c} + {c_row}*1]"],
            ["tilezero tmm0", "tilezero tmm2"],
            [
                "tileloadd tmm4, [{a} + {a_row}*1]",
                "tileloadd tmm6, [{b} + {b_row}*1]",
                "tileloadd tmm5, [{second_a} + {a_row}*1]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "add {second_a}, 64"
            ],
            ["tilestored [{c} + {c_row}*1], tmm0", "tilestored [{second_c} + {c_row}*1], tmm2"],
            second_a = inout(reg) product.a.as_ptr().add(second_a) => _,
            second_c = in(reg) product.c.as_mut_ptr().add(second_c),
        ),
        _ => multiply!(
            product,
            [
                "tileloadd tmm0, [{c} + {c_row}*1]",
                "tileloadd tmm1, [{c} + {c_row}*1 + 64]",
                "tileloadd tmm2, [{second_c} + {c_row}*1]",
                "tileloadd tmm3, [{second_c} + {c_row}*1 + 64]"
            ],
            ["tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3"],
            [
                "tileloadd tmm4, [{a} + {a_row}*1]",
                "tileloadd tmm6, [{b} + {b_row}*1]",
                "tileloadd tmm5, [{second_a} + {a_row}*1]",
                "tileloadd tmm7, [{b} + {b_row}*1 + 64]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "add {second_a}, 64"
            ],
            [
                "tilestored [{c} + {c_row}*1], tmm0",
                "tilestored [{c} + {c_row}*1 + 64], tmm1",
                "tilestored [{second_c} + {c_row}*1], tmm2",
                "tilestored [{second_c} + {c_row}*1 + 64], tmm3"
            ],
            second_a = inout(reg) product.a.as_ptr().add(second_a) => _,
            second_c = in(reg) product.c.as_mut_ptr().add(second_c),
        ),
    }
}
