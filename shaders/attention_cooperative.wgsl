// attention_cooperative: attention of float16 whose products a subgroup makes at once, as cooperative matrices.
// Tensors as in attention.wgsl. Experimental: Mesa's software driver has run it, no card yet.
// A workgroup takes some queries of a head: see shared/attention_forward.wgsl.
#use attention_matrices
#use matrices_cooperative
#use attention_forward
