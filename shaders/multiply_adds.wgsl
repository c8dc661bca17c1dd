// multiply_adds: x = a x + b, again and again: what a device can compute at the most.
// y: (threads).
// A thread has 16 numbers, none of which waits for another.
#use call

struct Params {
    call: Call,
    count: u32,
    rounds: u32,
    a: f32,
    b: f32,
}

@group(0) @binding(1) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(local_invocation_index) thread: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let index = index_of_group(group) * 256u + thread;
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
        y[shift(0u) + index] = sum.x + sum.y + sum.z + sum.w;
    }
}
