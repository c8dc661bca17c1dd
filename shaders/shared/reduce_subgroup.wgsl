// Reductions over the WIDTH = GROUP threads of a team: within subgroups first, whose size is known only now, then over
// their results in a fixed order. Every thread of the workgroup calls them and every thread gets the result.

struct Builtins {
    @builtin(local_invocation_index) thread: u32,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(num_subgroups) subgroups: u32,
    @builtin(subgroup_invocation_id) lane: u32,
}

// As many as there are threads: a subgroup may be as small as one.
var<workgroup> partial: array<vec2<f32>, GROUP>;

fn team_max(in: Builtins, x: vec2<f32>) -> vec2<f32> {
    let own = vec2<f32>(subgroupMax(x.x), subgroupMax(x.y));
    if (in.lane == 0u) {
        partial[in.subgroup] = own;
    }
    workgroupBarrier();
    var result = partial[0];
    for (var other = 1u; other < in.subgroups; other++) {
        result = max(result, partial[other]);
    }
    workgroupBarrier();
    return result;
}

fn team_sum(in: Builtins, x: vec2<f32>) -> vec2<f32> {
    let own = vec2<f32>(subgroupAdd(x.x), subgroupAdd(x.y));
    if (in.lane == 0u) {
        partial[in.subgroup] = own;
    }
    workgroupBarrier();
    var result = partial[0];
    for (var other = 1u; other < in.subgroups; other++) {
        result = result + partial[other];
    }
    workgroupBarrier();
    return result;
}
