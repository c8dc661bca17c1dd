//! The tile registers of one thread and what the instructions do to them, as Intel's manual says (Software Developer's
//! Manual, volume 1, chapter 18, and the pages of the instructions in volume 2).

use super::decode::Instruction;
use std::mem::swap;

/// Tiles of palette 1, the only one there is.
const TILES: usize = 8;
const MOST_ROWS: usize = 16;
const MOST_BYTES: usize = 64;
/// Lanes of 32 bits in a row.
const LANES: usize = MOST_BYTES / 4;

/// 64 bytes of shapes, as they lie in memory.
type Shapes = [u8; 64];

/// The shapes and what is in the tiles.
pub(super) struct Machine {
    shapes: Shapes,
    tiles: [[[u32; LANES]; MOST_ROWS]; TILES],
}

impl Machine {
    /// As a thread begins.
    pub(super) const fn new() -> Self {
        Self { shapes: [0; 64], tiles: [[[0; LANES]; MOST_ROWS]; TILES] }
    }

    fn row_bytes(&self, tile: usize) -> usize {
        usize::from(u16::from_le_bytes([self.shapes[16 + 2 * tile], self.shapes[17 + 2 * tile]]))
    }

    fn rows(&self, tile: usize) -> usize {
        usize::from(self.shapes[48 + tile])
    }

    /// Does what an instruction does; an error says why the CPU would refuse it.
    ///
    /// # Safety
    /// What it reads and writes must be memory of the process that nobody else uses.
    pub(super) unsafe fn run(&mut self, instruction: Instruction) -> Result<(), &'static str> {
        match instruction {
            Instruction::LoadConfig(address) => {
                // SAFETY: the caller vouches for the 64 bytes that the instruction reads.
                let shapes = unsafe { (address as *const Shapes).read() };
                self.configure(shapes)
            }
            Instruction::StoreConfig(address) => {
                // SAFETY: as above, for the 64 bytes that it writes.
                unsafe { (address as *mut Shapes).write(self.shapes) };
                Ok(())
            }
            Instruction::Release => {
                *self = Self::new();
                Ok(())
            }
            Instruction::Zero(tile) => {
                self.check(tile)?;
                self.tiles[tile] = [[0; LANES]; MOST_ROWS];
                Ok(())
            }
            Instruction::Load { tile, address, stride } => {
                self.check(tile)?;
                let (rows, lanes) = (self.rows(tile), self.row_bytes(tile) / 4);
                let mut read = [[0; LANES]; MOST_ROWS];
                for (row, cells) in read[..rows].iter_mut().enumerate() {
                    let from = address.wrapping_add(stride.wrapping_mul(row as u64)) as *const u32;
                    for (lane, cell) in cells[..lanes].iter_mut().enumerate() {
                        // SAFETY: the caller vouches for what the instruction reads, at whatever alignment.
                        *cell = unsafe { from.add(lane).read_unaligned() };
                    }
                }
                self.tiles[tile] = read;
                Ok(())
            }
            Instruction::Store { tile, address, stride } => {
                self.check(tile)?;
                let (rows, lanes) = (self.rows(tile), self.row_bytes(tile) / 4);
                for (row, cells) in self.tiles[tile][..rows].iter().enumerate() {
                    let to = address.wrapping_add(stride.wrapping_mul(row as u64)) as *mut u32;
                    for (lane, &cell) in cells[..lanes].iter().enumerate() {
                        // SAFETY: the same for what it writes.
                        unsafe { to.add(lane).write_unaligned(cell) };
                    }
                }
                Ok(())
            }
            Instruction::MultiplyAdd { sums, a, b } => self.multiply_add(sums, a, b),
        }
    }

    fn configure(&mut self, shapes: Shapes) -> Result<(), &'static str> {
        let mut configured = Self { shapes, ..Self::new() };
        match shapes[0] {
            // Palette 0 is that of no tiles.
            0 => configured.shapes = [0; 64],
            1 => {}
            _ => return Err("a palette that there is not"),
        }
        let beyond = |from: usize, to: usize| shapes[from..to].iter().any(|&byte| byte != 0);
        if shapes[0] == 1 {
            if shapes[1] != 0 {
                return Err("a row to go on from, which nothing here sets");
            }
            if beyond(2, 16) || beyond(16 + 2 * TILES, 48) || beyond(48 + TILES, 64) {
                return Err("shapes of tiles that there are not");
            }
            for tile in 0..TILES {
                let (rows, bytes) = (configured.rows(tile), configured.row_bytes(tile));
                if rows > MOST_ROWS || bytes > MOST_BYTES || (rows == 0) != (bytes == 0) {
                    return Err("a shape beyond that of a tile");
                }
                if !bytes.is_multiple_of(4) {
                    return Err("rows of no whole pairs");
                }
            }
        }
        swap(self, &mut configured);
        Ok(())
    }

    fn check(&self, tile: usize) -> Result<(), &'static str> {
        if self.shapes[0] == 0 {
            return Err("tiles without a configuration");
        }
        if tile >= TILES || self.rows(tile) == 0 {
            return Err("a tile without a shape");
        }
        Ok(())
    }

    fn multiply_add(&mut self, sums: usize, a: usize, b: usize) -> Result<(), &'static str> {
        for tile in [sums, a, b] {
            self.check(tile)?;
        }
        if sums == a || a == b || sums == b {
            return Err("a product of a tile with itself");
        }
        if self.rows(a) != self.rows(sums)
            || self.row_bytes(a) / 4 != self.rows(b)
            || self.row_bytes(b) != self.row_bytes(sums)
        {
            return Err("a product of tiles that do not fit");
        }
        let (rows, depth, columns) = (self.rows(sums), self.rows(b), self.row_bytes(b) / 4);
        // SAFETY: code for tiles runs only where AVX-512 is, and that never without FMA.
        unsafe { self.add_products(sums, a, b, [rows, depth, columns]) };
        Ok(())
    }

    /// The numbers of a pair have a sum each until the depth is over.
    #[target_feature(enable = "fma")]
    fn add_products(&mut self, sums: usize, a: usize, b: usize, [rows, depth, columns]: [usize; 3]) {
        for row in 0..rows {
            for column in 0..columns {
                let mut of_halves = [0.0_f32; 2];
                for k in 0..depth {
                    let (x, y) = (halves(self.tiles[a][row][k]), halves(self.tiles[b][k][column]));
                    for half in 0..2 {
                        of_halves[half] = flushed(x[half].mul_add(y[half], of_halves[half]));
                    }
                }
                let cell = &mut self.tiles[sums][row][column];
                let before = flushed(f32::from_bits(*cell));
                *cell = flushed(before + flushed(of_halves[0] + of_halves[1])).to_bits();
            }
            self.tiles[sums][row][columns..].fill(0);
        }
        for row in &mut self.tiles[sums][rows..] {
            row.fill(0);
        }
    }
}

/// The two numbers of a pair; denormals count as 0.
#[inline(always)]
fn halves(pair: u32) -> [f32; 2] {
    [flushed(f32::from_bits(pair << 16)), flushed(f32::from_bits(pair & 0xffff_0000))]
}

/// A 0 of the same sign for a denormal.
#[inline(always)]
fn flushed(x: f32) -> f32 {
    if x.is_subnormal() { 0.0_f32.copysign(x) } else { x }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tile 0 of 2 x 3 sums, tile 1 of 2 rows of 2 pairs, tile 2 of 2 rows of 3 pairs; tile 3 as tile 1.
    fn shapes() -> Shapes {
        let mut shapes = [0; 64];
        shapes[0] = 1;
        for (tile, (rows, bytes)) in [(2, 12), (2, 8), (2, 12), (2, 8)].into_iter().enumerate() {
            (shapes[48 + tile], shapes[16 + 2 * tile]) = (rows, bytes);
        }
        shapes
    }

    fn run(machine: &mut Machine, instruction: Instruction) -> Result<(), &'static str> {
        // SAFETY: the tests name memory of their own.
        unsafe { machine.run(instruction) }
    }

    fn configured() -> Machine {
        let mut machine = Machine::new();
        machine.configure(shapes()).unwrap();
        machine
    }

    /// A pair of numbers that bfloat16 holds.
    fn pair(low: f32, high: f32) -> u32 {
        low.to_bits() >> 16 | high.to_bits() & 0xffff_0000
    }

    #[test]
    fn a_product_is_what_its_numbers_give() {
        let mut machine = configured();
        let a = [pair(1.0, 2.0), pair(-3.0, 0.5), pair(0.0, 4.0), pair(1.5, 1.0)];
        let b = [
            pair(1.0, 0.0),
            pair(2.0, 1.0),
            pair(0.25, -1.0),
            pair(8.0, 2.0),
            pair(0.0, 0.0),
            pair(1.0, 1.0),
        ];
        let mut sums = [100.0_f32, 0.0, 0.0, 0.0, 0.0, -1.0];
        let at = |list: &[u32]| list.as_ptr() as u64;
        let of_sums = sums.as_mut_ptr() as u64;
        for instruction in [
            Instruction::Load { tile: 0, address: of_sums, stride: 12 },
            Instruction::Load { tile: 1, address: at(&a), stride: 8 },
            Instruction::Load { tile: 2, address: at(&b), stride: 12 },
            Instruction::MultiplyAdd { sums: 0, a: 1, b: 2 },
            Instruction::Store { tile: 0, address: of_sums, stride: 12 },
        ] {
            run(&mut machine, instruction).unwrap();
        }
        assert_eq!(sums, [78.0, 4.0, -4.25, 14.0, 4.0, -2.5]);
        assert_eq!(machine.tiles[0][0][3..], [0; 13]);
    }

    #[test]
    fn denormals_count_as_zero_and_become_zero() {
        let mut machine = configured();
        let tiny = f32::from_bits(0x0040_0000);
        machine.tiles[0][0][0] = tiny.to_bits();
        machine.tiles[1][0][0] = pair(tiny, f32::MIN_POSITIVE);
        machine.tiles[2][0][0] = pair(1e30, 0.5);
        run(&mut machine, Instruction::MultiplyAdd { sums: 0, a: 1, b: 2 }).unwrap();
        assert_eq!(machine.tiles[0][0][0], 0);
    }

    #[test]
    fn what_the_cpu_refuses_is_an_error() {
        let refused = |machine: &mut Machine, instruction| run(machine, instruction).unwrap_err();
        assert_eq!(refused(&mut Machine::new(), Instruction::Zero(0)), "tiles without a configuration");
        let mut machine = configured();
        assert_eq!(refused(&mut machine, Instruction::Zero(5)), "a tile without a shape");
        assert_eq!(refused(&mut machine, Instruction::Zero(9)), "a tile without a shape");
        let product = |sums, a, b| Instruction::MultiplyAdd { sums, a, b };
        assert_eq!(refused(&mut machine, product(0, 1, 1)), "a product of a tile with itself");
        assert_eq!(refused(&mut machine, product(0, 2, 1)), "a product of tiles that do not fit");
        run(&mut machine, Instruction::Release).unwrap();
        assert_eq!(refused(&mut machine, product(0, 1, 2)), "tiles without a configuration");
        for (byte, value) in [(0, 2), (1, 1), (5, 1), (34, 4), (57, 1), (48, 17), (16, 65), (16, 6), (52, 1)]
        {
            let mut wrong = shapes();
            wrong[byte] = value;
            assert!(machine.configure(wrong).is_err(), "byte {byte} of {value}");
        }
        assert_eq!(refused(&mut machine, Instruction::Zero(0)), "tiles without a configuration");
    }
}
