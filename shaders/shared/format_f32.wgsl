// Numbers of tensors are float32, held as their bits: so NaN and infinities pass through compilers that assume there
// are none.
alias Stored = u32;

fn unpack(stored: Stored) -> u32 {
    return stored;
}

fn pack(bits: u32) -> Stored {
    return bits;
}
