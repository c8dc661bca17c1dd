//! Gradient of softmax.

use crate::error::Result;
use crate::rows;
use crate::threads::Cancel;
use logitscope_simd::{Element, Kernel, Simd, Stored, math};

/// Gradient of [`super::softmax`]: dx = y (dy - sum y dy) / temperature.
///
/// # Errors
/// [`crate::Error`] if lengths or the temperature do not fit, or when cancelled.
pub fn softmax_backward<X: Stored>(
    y: &[X],
    dy: &[X],
    columns: usize,
    temperature: f64,
    dx: &mut [X],
    cancel: &Cancel,
) -> Result<()> {
    let scale: X::Wide = rows::scale_of("softmax_backward", temperature)?;
    let inputs = [("y", y), ("dy", dy)];
    rows::fill("softmax_backward", inputs, ("dx", dx), columns, cancel, |[y, dy], dx| {
        X::Wide::dispatch(BackwardRows { y, dy, dx, columns, scale });
    })
}

struct BackwardRows<'a, T> {
    y: &'a [T],
    dy: &'a [T],
    dx: &'a mut [T],
    columns: usize,
    scale: T,
}

impl<T: Element> Kernel<T> for BackwardRows<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let scale = simd.splat(self.scale);
        let inputs = self.y.chunks_exact(self.columns).zip(self.dy.chunks_exact(self.columns));
        for ((y, dy), dx) in inputs.zip(self.dx.chunks_exact_mut(self.columns)) {
            let mean = simd.splat(T::from_f64(rows::dot(simd, y, dy)));
            rows::write_row!(simd, dx, y in y, dy in dy => {
                math::flush(simd, simd.mul(simd.mul(y, simd.sub(dy, mean)), scale))
            });
        }
    }
}
