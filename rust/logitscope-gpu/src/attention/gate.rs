//! Gates on the values of attention: each value times a number of its own, and the gradient of that number.

use crate::device::Device;
use crate::error::{Error, Result};
use crate::rows::{GROUP, parts};
use crate::shader::{Reduction, Variant};
use crate::tensor::{Format, Tensor};

/// Values and their gates.
#[derive(Clone, Debug)]
pub struct ValueGate {
    /// (batch, key heads, keys, width).
    pub v: Tensor,
    /// (batch, key heads, keys) in float32.
    pub gate: Tensor,
    /// (batch) of 32 bits: how many keys are real. What others hold counts as 0.
    pub lengths: Tensor,
    /// Lengths of the axes: batch, key heads, keys, width.
    pub shape: [usize; 4],
}

impl ValueGate {
    /// The gated values; of a gradient of them, that of the values.
    ///
    /// # Errors
    /// [`Error::Shape`] where tensors do not fit, and whatever the device says.
    pub fn gated(&self, device: &Device) -> Result<Tensor> {
        let y = device.empty(self.v.len(), self.v.format())?;
        let width = self.shape[3];
        self.call(device, "value_gate", &[(&y, width)], width)?;
        Ok(y)
    }

    /// The gradient of the gates from that of the gated values.
    ///
    /// # Errors
    /// As [`ValueGate::gated`].
    pub fn gradient(&self, device: &Device, dgated: &Tensor) -> Result<Tensor> {
        let dgate = device.empty(self.gate.len(), Format::F32)?;
        device.check_rounds("attention_backward", self.shape[3])?;
        self.call(device, "value_gate_backward", &[(dgated, self.shape[3]), (&dgate, 1)], 1)?;
        Ok(dgate)
    }

    /// Calls a shader on all rows; `rest` are further tensors and how many numbers a row has of each.
    fn call(
        &self,
        device: &Device,
        shader: &'static str,
        rest: &[(&Tensor, usize)],
        threads: usize,
    ) -> Result<()> {
        let [batch, key_heads, keys, width] = self.shape;
        let rows = batch * key_heads * keys;
        let tensors = [(&self.v, width), (&self.gate, 1)];
        for &(tensor, each) in tensors.iter().chain(rest) {
            if tensor.len() != rows * each {
                let (got, expected) = (tensor.len(), rows * each);
                return Err(Error::Shape(format!("{shader}: a tensor of {got} numbers; use {expected}")));
            }
        }
        if rows * width == 0 {
            return Ok(());
        }
        let row_bytes = (width * self.v.format().bytes()).max(4);
        for (first, count) in parts(device, rows, row_bytes)? {
            let part = |&(tensor, each): &(&Tensor, usize)| tensor.slice(first * each, count * each);
            let [v, gate] = [part(&tensors[0]), part(&tensors[1])];
            let rest: Vec<_> = rest.iter().map(part).collect();
            let all: Vec<_> = [&v, &gate, &self.lengths].into_iter().chain(&rest).collect();
            let words = [count, first, width, keys, key_heads * keys].map(|number| number as u32);
            let groups = ((count * threads) as u64).div_ceil(u64::from(GROUP));
            device.call(&variant(shader, self.v.format()), &all, &words, groups)?;
        }
        Ok(())
    }
}

fn variant(shader: &'static str, format: Format) -> Variant {
    let mut writes = vec![false; if shader == "value_gate" { 3 } else { 4 }];
    writes.push(true);
    Variant { shader, format, reduction: Reduction::Tree, constants: Vec::new(), workgroup_bytes: 0, writes }
}

/// Every variant that may be asked for.
pub(super) fn variants(format: Format) -> [Variant; 2] {
    ["value_gate", "value_gate_backward"].map(|shader| variant(shader, format))
}
