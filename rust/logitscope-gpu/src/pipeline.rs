//! From the text of a shader to what a device runs.

use crate::error::{Error, Result};
use crate::shader::Variant;
use wgpu::{
    BindGroupLayout, BindGroupLayoutDescriptor, BindGroupLayoutEntry, BindingType, BufferBindingType,
    ComputePipeline, ComputePipelineDescriptor, ErrorFilter, PipelineCompilationOptions,
    PipelineLayoutDescriptor, ShaderModuleDescriptor, ShaderSource, ShaderStages,
};

/// A shader, ready to run.
#[derive(Debug)]
pub(crate) struct Pipeline {
    pub(crate) raw: ComputePipeline,
    pub(crate) layout: BindGroupLayout,
}

impl Pipeline {
    /// Compiles a text whose storage buffers, from binding 1 on, are written or only read.
    pub(crate) fn new(device: &wgpu::Device, name: &str, text: &str, writes: &[bool]) -> Result<Self> {
        let scope = device.push_error_scope(ErrorFilter::Validation);
        let module = device.create_shader_module(ShaderModuleDescriptor {
            label: Some(name),
            source: ShaderSource::Wgsl(text.into()),
        });
        let uniform = entry(0, BufferBindingType::Uniform);
        let storage = (1..)
            .zip(writes)
            .map(|(binding, &writes)| entry(binding, BufferBindingType::Storage { read_only: !writes }));
        let entries: Vec<_> = std::iter::once(uniform).chain(storage).collect();
        let layout = device
            .create_bind_group_layout(&BindGroupLayoutDescriptor { label: Some(name), entries: &entries });
        let whole = device.create_pipeline_layout(&PipelineLayoutDescriptor {
            label: Some(name),
            bind_group_layouts: &[Some(&layout)],
            immediate_size: 0,
        });
        let raw = device.create_compute_pipeline(&ComputePipelineDescriptor {
            label: Some(name),
            layout: Some(&whole),
            module: &module,
            entry_point: Some("main"),
            // Every shader writes workgroup memory before it reads it.
            compilation_options: PipelineCompilationOptions {
                zero_initialize_workgroup_memory: false,
                ..PipelineCompilationOptions::default()
            },
            cache: None,
        });
        match pollster::block_on(scope.pop()) {
            None => Ok(Self { raw, layout }),
            Some(error) => Err(Error::Compile { shader: name.to_owned(), message: error.to_string() }),
        }
    }
}

/// Refuses a variant that needs more workgroup memory than there is: naga does not count it.
pub(crate) fn check_memory(variant: &Variant, limit: u32) -> Result<()> {
    if variant.workgroup_bytes <= limit {
        return Ok(());
    }
    let (shader, bytes) = (variant.shader, variant.workgroup_bytes);
    let message = format!("it needs {bytes} bytes of workgroup memory; this device has {limit}");
    Err(Error::Compile { shader: shader.to_owned(), message })
}

fn entry(binding: u32, ty: BufferBindingType) -> BindGroupLayoutEntry {
    BindGroupLayoutEntry {
        binding,
        visibility: ShaderStages::COMPUTE,
        ty: BindingType::Buffer { ty, has_dynamic_offset: false, min_binding_size: None },
        count: None,
    }
}
