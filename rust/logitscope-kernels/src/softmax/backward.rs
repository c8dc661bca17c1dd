//! Gradient of softmax.

use crate::error::Result;
use crate::rows::{self, BackwardRows};
use crate::threads::Cancel;
use logitscope_simd::{Element, Kernel, Simd, math};

/// Gradient of [`super::softmax`]: dx = y (dy - sum y dy) / temperature.
///
/// # Errors
/// [`crate::Error`] if lengths or the temperature do not fit, or when cancelled.
pub fn softmax_backward<T: Element>(
    y: &[T],
    dy: &[T],
    columns: usize,
    temperature: f64,
    dx: &mut [T],
    cancel: &Cancel,
) -> Result<()> {
    let scale = rows::scale_of("softmax_backward", temperature)?;
    let all = BackwardRows { y, dy, dx, columns, scale };
    rows::backward("softmax_backward", all, cancel, |piece| T::dispatch(Backward(piece)))
}

struct Backward<'a, T>(BackwardRows<'a, T>);

impl<T: Element> Kernel<T> for Backward<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let BackwardRows { y, dy, dx, columns, scale } = self.0;
        let scale = simd.splat(scale);
        let inputs = y.chunks_exact(columns).zip(dy.chunks_exact(columns));
        for ((y, dy), dx) in inputs.zip(dx.chunks_exact_mut(columns)) {
            let mean = simd.splat(T::from_f64(rows::dot(simd, y, dy)));
            rows::write_row!(simd, dx, y in y, dy in dy => {
                math::flush(simd, simd.mul(simd.mul(y, simd.sub(dy, mean)), scale))
            });
        }
    }
}
