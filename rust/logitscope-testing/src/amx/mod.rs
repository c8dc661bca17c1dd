//! AMX on a CPU without: the very machine code for tiles runs, and a handler of SIGILL does what each instruction does.
//!
//! A CPU raises the signal at an instruction that it does not know. The handler decodes it, does to the tiles of the
//! thread, which lie in its own memory, what the manual says, and goes on behind it. Encodings, addresses, layouts and
//! the way of the program are so the real ones; its speed alone is not.

mod decode;
mod machine;

use decode::{Registers, decode};
use machine::Machine;
use std::cell::RefCell;
use std::sync::Once;

thread_local! {
    static MACHINE: RefCell<Machine> = const { RefCell::new(Machine::new()) };
}

/// Puts the handler in place, for the rest of the process.
pub(crate) fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let handler: extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void) = on_unknown_instruction;
        // SAFETY: zeros are a valid `sigaction`; the handler has the signature that SA_SIGINFO asks for.
        let result = unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handler as usize;
            action.sa_flags = libc::SA_SIGINFO;
            libc::sigaction(libc::SIGILL, &raw const action, std::ptr::null_mut())
        };
        assert_eq!(result, 0, "a handler for SIGILL");
    });
}

/// The places of the general registers in a context, in the order of their numbers.
const GENERAL: [i32; 16] = [
    libc::REG_RAX,
    libc::REG_RCX,
    libc::REG_RDX,
    libc::REG_RBX,
    libc::REG_RSP,
    libc::REG_RBP,
    libc::REG_RSI,
    libc::REG_RDI,
    libc::REG_R8,
    libc::REG_R9,
    libc::REG_R10,
    libc::REG_R11,
    libc::REG_R12,
    libc::REG_R13,
    libc::REG_R14,
    libc::REG_R15,
];

extern "C" fn on_unknown_instruction(_: i32, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the system hands the context of the interrupted thread to a handler with SA_SIGINFO, which owns it.
    let places = unsafe { &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs };
    let instruction = places[libc::REG_RIP as usize].cast_unsigned();
    let general = GENERAL.map(|place| places[place as usize].cast_unsigned());
    // SAFETY: bytes of the program, asked for one after the other as long as they belong to the instruction.
    let code = (0..).map(|at| unsafe { (instruction as *const u8).add(at).read() });
    let Some((operation, length)) = decode(code, &Registers { general, instruction }) else {
        // Back to what the signal does without a handler, at the same instruction.
        // SAFETY: a call that a handler may make.
        unsafe { libc::signal(libc::SIGILL, libc::SIG_DFL) };
        return;
    };
    // SAFETY: the program vouches for the memory that its instruction names, as it does where the CPU knows it.
    if let Err(reason) = MACHINE.with_borrow_mut(|machine| unsafe { machine.run(operation) }) {
        eprintln!("AMX: {operation:x?} is {reason}");
        std::process::abort();
    }
    places[libc::REG_RIP as usize] += length.cast_signed();
}
