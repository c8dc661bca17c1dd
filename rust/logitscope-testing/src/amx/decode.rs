//! The few instructions of AMX as bytes: three bytes of VEX, one of operation, `ModRM` and what an address adds to it.

/// The registers that an address may name, in the order of their numbers, and the instruction pointer.
pub(super) struct Registers {
    pub(super) general: [u64; 16],
    pub(super) instruction: u64,
}

/// What to do; tiles by number, places in memory by address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Instruction {
    LoadConfig(u64),
    StoreConfig(u64),
    Release,
    Zero(usize),
    /// Rows begin so many bytes apart.
    Load {
        tile: usize,
        address: u64,
        stride: u64,
    },
    Store {
        tile: usize,
        address: u64,
        stride: u64,
    },
    /// `sums += a b`, of pairs of bfloat16.
    MultiplyAdd {
        sums: usize,
        a: usize,
        b: usize,
    },
}

/// How an address is written.
struct Address {
    /// All of it but the index.
    base: u64,
    /// The scaled index; None where there is no byte for one.
    index: Option<u64>,
}

/// The instruction that the bytes begin with, and how many there are of it; None where it is none of AMX.
pub(super) fn decode(
    mut code: impl Iterator<Item = u8>,
    registers: &Registers,
) -> Option<(Instruction, u64)> {
    let mut length = 0;
    let mut next = || {
        length += 1;
        code.next()
    };
    if next()? != 0xc4 {
        return None;
    }
    let (first, second, operation, modrm) = (next()?, next()?, next()?, next()?);
    // The bits that extend numbers of registers are stored inverted; map 0F38, no wide operands, 128 bits.
    let extension = |bit: u8| if first & bit == 0 { 8 } else { 0 };
    if first & 0x1f != 2 || second & 0x84 != 0 {
        return None;
    }
    let third_operand = usize::from(!second >> 3 & 0xf);
    let (reg, rm) = (usize::from(modrm >> 3 & 7) + extension(0x80), usize::from(modrm & 7));
    let is_register = modrm >> 6 == 3;
    let prefix = second & 3;
    if is_register {
        let instruction = match (operation, prefix) {
            (0x49, 0) if modrm == 0xc0 && third_operand == 0 => Instruction::Release,
            (0x49, 3) if rm == 0 && third_operand == 0 => Instruction::Zero(reg),
            (0x5c, 2) => Instruction::MultiplyAdd { sums: reg, a: rm + extension(0x20), b: third_operand },
            _ => return None,
        };
        return Some((instruction, length));
    }
    if third_operand != 0 {
        return None;
    }
    let mut base = 0;
    let mut index = None;
    let mut is_relative = false;
    let mut wide_displacement = modrm >> 6 == 2;
    if rm == 4 {
        let sib = next()?;
        let (scale, number) = (sib >> 6, usize::from(sib >> 3 & 7) + extension(0x40));
        index = Some(if number == 4 { 0 } else { registers.general[number] << scale });
        if sib & 7 == 5 && modrm >> 6 == 0 {
            wide_displacement = true;
        } else {
            base = registers.general[usize::from(sib & 7) + extension(0x20)];
        }
    } else if rm == 5 && modrm >> 6 == 0 {
        is_relative = true;
        wide_displacement = true;
    } else {
        base = registers.general[rm + extension(0x20)];
    }
    let displacement = if wide_displacement {
        i32::from_le_bytes([next()?, next()?, next()?, next()?])
    } else if modrm >> 6 == 1 {
        i32::from(next()?.cast_signed())
    } else {
        0
    };
    base = base.wrapping_add_signed(displacement.into());
    if is_relative {
        base = base.wrapping_add(registers.instruction + length);
    }
    let address = Address { base, index };
    let whole = address.base.wrapping_add(address.index.unwrap_or(0));
    let instruction = match (operation, prefix, address) {
        (0x49, 0, _) if reg == 0 => Instruction::LoadConfig(whole),
        (0x49, 1, _) if reg == 0 => Instruction::StoreConfig(whole),
        // The hint of prefix 1, that the tile will not be read again soon, changes no result.
        (0x4b, 1 | 3, Address { base: address, index: Some(stride) }) => {
            Instruction::Load { tile: reg, address, stride }
        }
        (0x4b, 2, Address { base: address, index: Some(stride) }) => {
            Instruction::Store { tile: reg, address, stride }
        }
        _ => return None,
    };
    Some((instruction, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As an assembler writes them; the registers hold 1000 times their number, the instruction lies at 16.
    fn decoded(bytes: &[u8]) -> Option<(Instruction, u64)> {
        let mut general = [0; 16];
        for (number, register) in general.iter_mut().enumerate() {
            *register = 1000 * number as u64;
        }
        decode(bytes.iter().copied(), &Registers { general, instruction: 16 })
    }

    #[test]
    fn instructions_are_what_an_assembler_calls_them() {
        let cases: [(&[u8], Instruction); 11] = [
            // ldtilecfg [rcx]; ldtilecfg [rip + 256]; sttilecfg [r13 - 8]
            (&[0xc4, 0xe2, 0x78, 0x49, 0x01], Instruction::LoadConfig(1000)),
            (&[0xc4, 0xe2, 0x78, 0x49, 0x05, 0, 1, 0, 0], Instruction::LoadConfig(16 + 9 + 256)),
            (&[0xc4, 0xc2, 0x79, 0x49, 0x45, 0xf8], Instruction::StoreConfig(12_992)),
            (&[0xc4, 0xe2, 0x78, 0x49, 0xc0], Instruction::Release),
            (&[0xc4, 0xe2, 0x7b, 0x49, 0xd8], Instruction::Zero(3)),
            // tileloadd tmm4, [rdi + rsi]; tileloadd tmm6, [rdi + rsi + 64]; tileloadd tmm1, [r8 + 4 * r9 - 256]
            (
                &[0xc4, 0xe2, 0x7b, 0x4b, 0x24, 0x37],
                Instruction::Load { tile: 4, address: 7000, stride: 6000 },
            ),
            (
                &[0xc4, 0xe2, 0x7b, 0x4b, 0x74, 0x37, 0x40],
                Instruction::Load { tile: 6, address: 7064, stride: 6000 },
            ),
            (
                &[0xc4, 0x82, 0x7b, 0x4b, 0x8c, 0x88, 0, 0xff, 0xff, 0xff],
                Instruction::Load { tile: 1, address: 7744, stride: 36_000 },
            ),
            // tileloaddt1 tmm0, [rdi + rsi]
            (
                &[0xc4, 0xe2, 0x79, 0x4b, 0x04, 0x37],
                Instruction::Load { tile: 0, address: 7000, stride: 6000 },
            ),
            // tilestored [rdx + rsi], tmm0; tdpbf16ps tmm3, tmm4, tmm5
            (
                &[0xc4, 0xe2, 0x7a, 0x4b, 0x04, 0x32],
                Instruction::Store { tile: 0, address: 2000, stride: 6000 },
            ),
            (&[0xc4, 0xe2, 0x52, 0x5c, 0xdc], Instruction::MultiplyAdd { sums: 3, a: 4, b: 5 }),
        ];
        for (bytes, wanted) in cases {
            assert_eq!(decoded(bytes), Some((wanted, bytes.len() as u64)), "{bytes:02x?}");
        }
    }

    #[test]
    fn other_instructions_are_left_alone() {
        // ud2; vzeroupper; tdpbssd, the product of integers; a load without the byte for an index; a piece of one.
        let others: [&[u8]; 5] = [
            &[0x0f, 0x0b],
            &[0xc5, 0xf8, 0x77],
            &[0xc4, 0xe2, 0x53, 0x5e, 0xdc],
            &[0xc4, 0xe2, 0x7b, 0x4b, 0x07],
            &[0xc4, 0xe2, 0x7b],
        ];
        for bytes in others {
            assert_eq!(decoded(bytes), None, "{bytes:02x?}");
        }
    }
}
