//! Calls that are recorded and not yet submitted.

use crate::pipeline::Pipeline;
use crate::pool::Buffer;
use crate::tensor::Tensor;
use wgpu::{BindGroupDescriptor, BindGroupEntry, BindingResource, BufferBinding, BufferSize, CommandEncoder};

/// After so many calls the chain is submitted, so that the device need not wait for its end.
pub(crate) const LONGEST: usize = 32;

/// Words at the head of the parameters of a shader: where each tensor begins within its binding; last, how many workgroups
/// there are in a row of the grid.
pub(crate) const SHIFTS: usize = 12;

/// Calls that are recorded and not yet submitted.
#[derive(Debug, Default)]
pub(crate) struct Chain {
    pub(crate) encoder: Option<CommandEncoder>,
    pub(crate) calls: usize,
}

impl Chain {
    /// Appends a call; `uniform` holds its parameters.
    pub(crate) fn append(
        &mut self,
        device: &wgpu::Device,
        pipeline: &Pipeline,
        uniform: &Buffer,
        bindings: &[Bound<'_>],
        grid: (u32, u32),
    ) {
        let head = BindGroupEntry { binding: 0, resource: uniform.raw().as_entire_binding() };
        let rest = (1..)
            .zip(bindings)
            .map(|(binding, bound)| BindGroupEntry { binding, resource: bound.resource() });
        let entries: Vec<_> = std::iter::once(head).chain(rest).collect();
        let group = device.create_bind_group(&BindGroupDescriptor {
            label: None,
            layout: &pipeline.layout,
            entries: &entries,
        });
        let encoder = self.encoder(device);
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        pass.set_pipeline(&pipeline.raw);
        pass.set_bind_group(0, &group, &[]);
        pass.dispatch_workgroups(grid.0, grid.1, 1);
        drop(pass);
        self.calls += 1;
    }

    pub(crate) fn encoder(&mut self, device: &wgpu::Device) -> &mut CommandEncoder {
        self.encoder
            .get_or_insert_with(|| device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default()))
    }
}

/// A tensor as a shader sees it: bindings begin at multiples of an alignment, so it may begin later within its own.
pub(crate) struct Bound<'a> {
    tensor: &'a Tensor,
    offset: u64,
    bytes: u64,
}

impl<'a> Bound<'a> {
    pub(crate) fn new(tensor: &'a Tensor, alignment: u64) -> Self {
        let first = (tensor.start * tensor.format().bytes()) as u64;
        let offset = first - first % alignment;
        let bytes = (first + tensor.bytes() - offset).next_multiple_of(4).max(4);
        Self { tensor, offset, bytes }
    }

    /// Bytes of the binding.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Where the tensor begins within its binding, in numbers.
    pub(crate) fn shift(&self) -> u32 {
        self.tensor.start as u32 - (self.offset / self.tensor.format().bytes() as u64) as u32
    }

    fn resource(&self) -> BindingResource<'_> {
        BindingResource::Buffer(BufferBinding {
            buffer: self.tensor.buffer.raw(),
            offset: self.offset,
            size: BufferSize::new(self.bytes),
        })
    }
}
