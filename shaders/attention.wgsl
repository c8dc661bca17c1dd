// attention: o = softmax(s) v, or sigmoid(s) v, for each query, and lse, largest score, 1 / sum and entropy of its row.
// q, k, v: see shared/attention.wgsl; out: (batch, heads, queries, value_dim), state: (batch, heads, queries, 4).
// A workgroup takes some queries of a head: see shared/attention_forward.wgsl.
#use attention_products
#use attention_forward
