//! Which instruction set runs: detected once, forced by `LOGITSCOPE_ISA`.

use crate::dispatch;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

/// An instruction set the kernels are compiled for, from the narrowest to the widest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Isa {
    /// Plain Rust, any CPU.
    Scalar = 1,
    /// 128-bit vectors of every 64-bit ARM.
    Neon = 2,
    /// 256-bit vectors with FMA: Intel Haswell, AMD Zen and later.
    Avx2 = 3,
    /// 512-bit vectors (F, BW, DQ, VL): Intel Skylake-SP, AMD Zen 4 and later.
    Avx512 = 4,
}

/// Why an instruction set cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IsaError {
    /// One of this name is unknown, or the CPU lacks it.
    Unavailable(String),
    /// What `LOGITSCOPE_AMX` says, which means nothing.
    Amx(String),
}

impl fmt::Display for IsaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unavailable(name) => {
                let available: Vec<_> = Isa::available().iter().map(|isa| isa.name()).collect();
                let available = available.join(", ");
                write!(f, "LOGITSCOPE_ISA: '{name}' cannot be used here; this CPU runs {available}")
            }
            Self::Amx(value) => {
                write!(
                    f,
                    "LOGITSCOPE_AMX: '{value}'; use 0 to leave out the tiles, 1 to use them where they are"
                )
            }
        }
    }
}

impl std::error::Error for IsaError {}

/// 0 before the first use, then the discriminant of the instruction set in use.
static CURRENT: AtomicU8 = AtomicU8::new(0);

/// Whether products of pairs of bfloat16 are in use: where the CPU has them and no instruction set was asked for.
static PAIRS: AtomicBool = AtomicBool::new(false);

/// Whether tiles of bfloat16 are used where pairs are and the CPU has tiles: unless `LOGITSCOPE_AMX` is 0.
static TILES: AtomicBool = AtomicBool::new(true);

impl Isa {
    const ALL: [Isa; 4] = [Isa::Scalar, Isa::Neon, Isa::Avx2, Isa::Avx512];

    /// The name `LOGITSCOPE_ISA`, logs and benches use.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Scalar => "scalar",
            Isa::Neon => "neon",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
        }
    }

    /// The instruction sets this CPU runs, narrowest first.
    pub fn available() -> Vec<Isa> {
        Self::ALL.into_iter().filter(|&isa| dispatch::is_supported(isa)).collect()
    }

    /// The instruction set in use: the widest, unless `LOGITSCOPE_ISA` or [`Isa::select`] chose one.
    ///
    /// # Panics
    /// If `LOGITSCOPE_ISA` names one that cannot be used; call [`Isa::initialise`] first to get an error.
    #[inline]
    pub fn current() -> Isa {
        match Self::from_discriminant(CURRENT.load(Ordering::Relaxed)) {
            Some(isa) => isa,
            None => Self::first_use(),
        }
    }

    /// Kept out of [`Isa::current`], which every dispatch inlines.
    #[cold]
    #[inline(never)]
    fn first_use() -> Isa {
        Self::initialise().unwrap_or_else(|error| panic!("{error}"))
    }

    /// Reads `LOGITSCOPE_ISA` and `LOGITSCOPE_AMX` and detects the CPU.
    ///
    /// # Errors
    /// [`IsaError`] if the first names an instruction set that is unknown or that the CPU lacks, or the second is
    /// neither 0 nor 1.
    pub fn initialise() -> Result<Isa, IsaError> {
        match std::env::var("LOGITSCOPE_AMX").unwrap_or_default().as_str() {
            "" | "1" => TILES.store(true, Ordering::Relaxed),
            "0" => TILES.store(false, Ordering::Relaxed),
            other => return Err(IsaError::Amx(other.to_owned())),
        }
        match std::env::var("LOGITSCOPE_ISA") {
            Ok(name) if !name.is_empty() => Self::select(&name),
            _ => Ok(Self::select_widest()),
        }
    }

    fn select_widest() -> Isa {
        let widest = Self::available().pop().unwrap_or(Isa::Scalar);
        CURRENT.store(widest as u8, Ordering::Relaxed);
        PAIRS.store(dispatch::has_pairs(), Ordering::Relaxed);
        widest
    }

    /// Makes `name` the instruction set in use, for the whole process; `"auto"` is what this CPU does best.
    ///
    /// # Errors
    /// [`IsaError`] if `name` is unknown or the CPU lacks it.
    pub fn select(name: &str) -> Result<Isa, IsaError> {
        if name == "auto" {
            return Ok(Self::select_widest());
        }
        let found = Self::available().into_iter().find(|isa| isa.name() == name);
        let isa = found.ok_or_else(|| IsaError::Unavailable(name.to_owned()))?;
        PAIRS.store(false, Ordering::Relaxed);
        CURRENT.store(isa as u8, Ordering::Relaxed);
        Ok(isa)
    }

    /// Whether bfloat16 is multiplied as it is, in pairs (AVX512-BF16): where the CPU can and no instruction set was
    /// asked for by name. Sums are then rounded in another order.
    #[inline]
    pub fn uses_pairs() -> bool {
        Self::current() == Isa::Avx512 && PAIRS.load(Ordering::Relaxed)
    }

    /// Whether matrices of bfloat16 are multiplied in tiles (AMX): where pairs are in use, the CPU has tiles, the system
    /// lets this process use them, and `LOGITSCOPE_AMX` does not forbid it. The first call asks the system.
    #[inline]
    pub fn uses_tiles() -> bool {
        Self::uses_pairs() && TILES.load(Ordering::Relaxed) && dispatch::has_tiles()
    }

    #[inline]
    fn from_discriminant(value: u8) -> Option<Isa> {
        match value {
            1 => Some(Isa::Scalar),
            2 => Some(Isa::Neon),
            3 => Some(Isa::Avx2),
            4 => Some(Isa::Avx512),
            _ => None,
        }
    }
}
