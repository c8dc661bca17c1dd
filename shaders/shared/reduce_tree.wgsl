// Reductions over the WIDTH threads of a team by a tree in workgroup memory, in a fixed order.
// Every thread of the workgroup calls them and every thread gets the result.

struct Builtins {
    @builtin(local_invocation_index) thread: u32,
    @builtin(workgroup_id) group: vec3<u32>,
}

var<workgroup> partial: array<vec2<f32>, GROUP>;

fn team_max(in: Builtins, x: vec2<f32>) -> vec2<f32> {
    partial[in.thread] = x;
    workgroupBarrier();
    for (var half = WIDTH / 2u; half > 0u; half = half / 2u) {
        if (in.thread % WIDTH < half) {
            partial[in.thread] = max(partial[in.thread], partial[in.thread + half]);
        }
        workgroupBarrier();
    }
    let result = partial[in.thread - in.thread % WIDTH];
    workgroupBarrier();
    return result;
}

fn team_sum(in: Builtins, x: vec2<f32>) -> vec2<f32> {
    partial[in.thread] = x;
    workgroupBarrier();
    for (var half = WIDTH / 2u; half > 0u; half = half / 2u) {
        if (in.thread % WIDTH < half) {
            partial[in.thread] = partial[in.thread] + partial[in.thread + half];
        }
        workgroupBarrier();
    }
    let result = partial[in.thread - in.thread % WIDTH];
    workgroupBarrier();
    return result;
}
