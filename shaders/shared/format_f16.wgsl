// Numbers of tensors are float16; computing sees the bits of the same numbers in float32.
enable f16;

alias Stored = f16;

fn unpack(stored: Stored) -> u32 {
    return bitcast<u32>(f32(stored));
}

fn pack(bits: u32) -> Stored {
    return f16(bitcast<f32>(bits));
}
