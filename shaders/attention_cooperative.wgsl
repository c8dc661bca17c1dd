// attention_cooperative: attention of float16 whose products a subgroup makes at once, as cooperative matrices.
// Tensors as in attention.wgsl. Experimental: no card has run it yet.
// A workgroup takes some queries of a head: see shared/attention_forward.wgsl.
#use attention_matrices
#use matrices_cooperative
#use attention_forward
