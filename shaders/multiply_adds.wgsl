// multiply_adds: x = a x + b, again and again: what a device can compute at the most.
// y: (threads).
// A thread has 16 numbers, none of which waits for another.
struct Params {
    /// Where each tensor begins within its binding.
    shifts: array<vec4<u32>, 3>,
    /// Workgroups in a row of the grid.
    wide: u32,
    count: u32,
    rounds: u32,
    a: f32,
    b: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(local_invocation_index) thread: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let index = (group.x + group.y * params.wide) * 256u + thread;
    let a = vec4<f32>(params.a);
    let b = vec4<f32>(params.b);
    var one = vec4<f32>(f32(index % 256u));
    var two = one + b;
    var three = two + b;
    var four = three + b;
    for (var round = 0u; round < params.rounds; round++) {
        one = fma(one, a, b);
        two = fma(two, a, b);
        three = fma(three, a, b);
        four = fma(four, a, b);
    }
    if (index < params.count) {
        let sum = one + two + three + four;
        y[params.shifts[0].x + index] = sum.x + sum.y + sum.z + sum.w;
    }
}
