//! Whether this process may use tiles: the CPU has them, and the system saves them for a process that asks.

use std::arch::asm;
use std::arch::x86_64::{__cpuid, __cpuid_count};
use std::sync::OnceLock;

/// CPUID 7, EDX: the tiles and their products of bfloat16.
const TILES_OF_BF16: u32 = 1 << 24 | 1 << 22;
/// CPUID 1, ECX: the system tells what it saves.
const OSXSAVE: u32 = 1 << 27;
/// XCR0: the shapes of the tiles and what is in them.
const SAVED_TILES: u32 = 1 << 18 | 1 << 17;

/// Whether tiles can be used. The first call asks the system for permission, for all threads of the process; it may refuse.
pub(crate) fn has_tiles() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| cpu_has_tiles() && system_saves_tiles() && is_permitted())
}

#[allow(unused_unsafe, reason = "safe functions only in newer compilers")]
fn cpu_has_tiles() -> bool {
    // SAFETY: every 64-bit CPU of this family has the instruction.
    let (most, features, more) = unsafe { (__cpuid(0).eax, __cpuid(1).ecx, __cpuid_count(7, 0).edx) };
    most >= 7 && features & OSXSAVE != 0 && more & TILES_OF_BF16 == TILES_OF_BF16
}

/// To be called where the CPU has tiles: then it has the instruction.
fn system_saves_tiles() -> bool {
    let saved: u32;
    // SAFETY: reads a register that CPUID's OSXSAVE has announced; nothing but the named registers changes.
    unsafe {
        asm!("xgetbv", in("ecx") 0, out("eax") saved, out("edx") _, options(nomem, nostack, preserves_flags));
    }
    saved & SAVED_TILES == SAVED_TILES
}

#[cfg(target_os = "linux")]
fn is_permitted() -> bool {
    /// `arch_prctl`, its request for a part of the state, and that part: what is in the tiles.
    const ARCH_PRCTL: i64 = 158;
    const ARCH_REQ_XCOMP_PERM: u64 = 0x1023;
    const XFEATURE_XTILEDATA: u64 = 18;
    let result: i64;
    // SAFETY: a system call by its convention, which changes these registers alone; it reads no memory of ours.
    unsafe {
        asm!(
            "syscall",
            inout("rax") ARCH_PRCTL => result,
            in("rdi") ARCH_REQ_XCOMP_PERM,
            in("rsi") XFEATURE_XTILEDATA,
            out("rcx") _,
            out("r11") _,
            options(nostack)
        );
    }
    result == 0
}

/// Only Linux's way of asking is known here.
#[cfg(not(target_os = "linux"))]
fn is_permitted() -> bool {
    false
}
