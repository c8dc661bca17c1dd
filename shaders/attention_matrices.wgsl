// attention_matrices: attention_cooperative without cooperative matrices, for tests of the rest.
// Tensors as in attention.wgsl.
// A workgroup takes some queries of a head: see shared/attention_forward.wgsl.
#use attention_matrices
#use matrices_software
#use attention_forward
