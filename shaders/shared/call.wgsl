// What every shader is told of its call: Params begins with it.

/// Where each tensor begins within its binding; last, how many workgroups there are in a row of the grid.
alias Call = array<vec4<u32>, 3>;

@group(0) @binding(0) var<uniform> params: Params;

fn shift(binding: u32) -> u32 {
    return params.call[binding / 4u][binding % 4u];
}

/// The place of a workgroup among all.
fn index_of_group(group: vec3<u32>) -> u32 {
    return group.x + group.y * params.call[2].w;
}
