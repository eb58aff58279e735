//! The scratch guest: one page of code in 64-bit mode, and the tables that it
//! takes to be there. Everything lies in the first 128 KiB, mapped one to one.

/// Guest memory: code, tables and a stack.
pub(super) const MEMORY_BYTES: usize = 128 << 10;

pub(super) const PAGE_MAP: u64 = 0x1000;
const POINTERS: u64 = 0x2000;
const DIRECTORY: u64 = 0x3000;
pub(super) const GDT: u64 = 0x4000;
pub(super) const IDT: u64 = 0x5000;
/// Where the guest tells how far it is: the stage, the breakpoints handled,
/// the rounds left and the sum, a 64-bit word each.
pub(super) const REPORT: u64 = 0x7000;
pub(super) const CODE: u64 = 0x1_0000;
pub(super) const STACK_TOP: u64 = 0xfff0;

pub(super) const CODE_SELECTOR: u16 = 0x08;
pub(super) const DATA_SELECTOR: u16 = 0x10;
pub(super) const GDT_LIMIT: u16 = 3 * 8 - 1;
/// Vectors 0 to 3: the breakpoint's is the last that we fill.
pub(super) const IDT_LIMIT: u16 = 4 * 16 - 1;
const BREAKPOINT_VECTOR: u64 = 3;

/// The guest writes here when all went well, and to the other when a result
/// was wrong.
pub(super) const PORT_PASSED: u16 = 0xf4;
pub(super) const PORT_FAILED: u16 = 0xf5;

/// How often the loop at the end goes round.
pub(super) const ROUNDS: u64 = 1_000_000;
/// Instructions in one round.
pub(super) const ROUND_INSTRUCTIONS: u64 = 4;
/// 1 + 2 + ... + [`ROUNDS`].
pub(super) const SUM: u64 = ROUNDS * (ROUNDS + 1) / 2;

/// What the guest was doing when it last told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// The first instruction has not run.
    Start,
    /// A 16-byte compare and exchange.
    Cmpxchg16b,
    /// Enabling and saving the extended state.
    Xsave,
    /// Restoring it.
    Xrstor,
    /// A breakpoint, handled by the guest.
    Int3,
    /// Four million plain instructions.
    Loop,
    /// All done.
    End,
}

impl Stage {
    pub(super) fn from_report(word: u64) -> Self {
        match word {
            0 => Self::Start,
            1 => Self::Cmpxchg16b,
            2 | 3 => Self::Xsave,
            4 => Self::Xrstor,
            5 => Self::Int3,
            6 => Self::Loop,
            _ => Self::End,
        }
    }
}

impl std::fmt::Display for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Start => "its first instruction",
            Self::Cmpxchg16b => "cmpxchg16b",
            Self::Xsave => "xsave",
            Self::Xrstor => "xrstor",
            Self::Int3 => "int3",
            Self::Loop => "a plain loop",
            Self::End => "its last instruction",
        })
    }
}

/// Where the breakpoint's handler starts within [`PROGRAM`].
const HANDLER: u64 = 0x8e;

#[rustfmt::skip]
const PROGRAM: &[u8] = &[
    0xbe, 0x00, 0x70, 0x00, 0x00,       // mov    $REPORT,%esi
    0xc6, 0x06, 0x01,                   // movb   $1,(%rsi)
    0xbf, 0x00, 0x80, 0x00, 0x00,       // mov    $0x8000,%edi
    0x31, 0xc0,                         // xor    %eax,%eax
    0x31, 0xd2,                         // xor    %edx,%edx
    0xbb, 0x11, 0x00, 0x00, 0x00,       // mov    $0x11,%ebx
    0xb9, 0x22, 0x00, 0x00, 0x00,       // mov    $0x22,%ecx
    0xf0, 0x48, 0x0f, 0xc7, 0x0f,       // lock cmpxchg16b (%rdi)
    0x75, 0x69,                         // jne    fail
    0x48, 0x83, 0x3f, 0x11,             // cmpq   $0x11,(%rdi)
    0x75, 0x63,                         // jne    fail
    0x48, 0x83, 0x7f, 0x08, 0x22,       // cmpq   $0x22,8(%rdi)
    0x75, 0x5c,                         // jne    fail
    0xc6, 0x06, 0x02,                   // movb   $2,(%rsi)
    0x31, 0xc9,                         // xor    %ecx,%ecx
    0xb8, 0x03, 0x00, 0x00, 0x00,       // mov    $3,%eax         x87 and SSE
    0x0f, 0x01, 0xd1,                   // xsetbv
    0xc6, 0x06, 0x03,                   // movb   $3,(%rsi)
    0x66, 0x48, 0x0f, 0x6e, 0xc3,       // movq   %rbx,%xmm0
    0xbf, 0x00, 0x90, 0x00, 0x00,       // mov    $0x9000,%edi
    0x0f, 0xae, 0x27,                   // xsave  (%rdi)
    0x66, 0x0f, 0xef, 0xc0,             // pxor   %xmm0,%xmm0
    0xc6, 0x06, 0x04,                   // movb   $4,(%rsi)
    0x0f, 0xae, 0x2f,                   // xrstor (%rdi)
    0x66, 0x48, 0x0f, 0x7e, 0xc0,       // movq   %xmm0,%rax
    0x48, 0x39, 0xd8,                   // cmp    %rbx,%rax
    0x75, 0x2b,                         // jne    fail
    0xc6, 0x06, 0x05,                   // movb   $5,(%rsi)
    0xcc,                               // int3
    0x48, 0x83, 0x7e, 0x08, 0x01,       // cmpq   $1,8(%rsi)
    0x75, 0x20,                         // jne    fail
    0xc6, 0x06, 0x06,                   // movb   $6,(%rsi)
    0x31, 0xc0,                         // xor    %eax,%eax
    0xb9, 0x40, 0x42, 0x0f, 0x00,       // mov    $ROUNDS,%ecx
    0x48, 0x01, 0xc8,                   // again: add %rcx,%rax
    0x89, 0x4e, 0x10,                   // mov    %ecx,16(%rsi)
    0xff, 0xc9,                         // dec    %ecx
    0x75, 0xf6,                         // jne    again
    0x89, 0x4e, 0x10,                   // mov    %ecx,16(%rsi)
    0x48, 0x89, 0x46, 0x18,             // mov    %rax,24(%rsi)
    0xc6, 0x06, 0x07,                   // movb   $7,(%rsi)
    0xe6, 0xf4,                         // out    %al,$PORT_PASSED
    0xe6, 0xf5,                         // fail:  out %al,$PORT_FAILED
    0xf4,                               // hlt
    0x48, 0xff, 0x46, 0x08,             // handler: incq 8(%rsi)
    0x48, 0xcf,                         // iretq
];

/// All that must be in memory at the start, as 64-bit words by address.
pub(super) fn image() -> Vec<(u64, u64)> {
    let mut words = tables();
    let chunks = PROGRAM.chunks(8).zip((CODE..).step_by(8));
    words.extend(chunks.map(|(bytes, address)| (address, little_endian(bytes))));
    words
}

fn little_endian(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
}

fn tables() -> Vec<(u64, u64)> {
    const PRESENT_WRITABLE: u64 = 0b11;
    const LARGE_PAGE: u64 = 1 << 7;
    let [low, high] = gate(CODE + HANDLER);
    vec![
        (PAGE_MAP, POINTERS | PRESENT_WRITABLE),
        (POINTERS, DIRECTORY | PRESENT_WRITABLE),
        (DIRECTORY, LARGE_PAGE | PRESENT_WRITABLE),
        // 64-bit code, then data; both flat, present, ring 0, accessed.
        (GDT + u64::from(CODE_SELECTOR), 0x00af_9b00_0000_ffff),
        (GDT + u64::from(DATA_SELECTOR), 0x00cf_9300_0000_ffff),
        (IDT + BREAKPOINT_VECTOR * 16, low),
        (IDT + BREAKPOINT_VECTOR * 16 + 8, high),
    ]
}

/// A 64-bit interrupt gate, present, ring 0.
fn gate(handler: u64) -> [u64; 2] {
    const PRESENT_INTERRUPT: u64 = 0x8e00 << 32;
    let selector = u64::from(CODE_SELECTOR) << 16;
    [(handler & 0xffff) | selector | PRESENT_INTERRUPT | (handler & 0xffff_0000) << 32, handler >> 32]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_handler_is_where_the_gate_points() {
        assert_eq!(PROGRAM[HANDLER as usize..], [0x48, 0xff, 0x46, 0x08, 0x48, 0xcf]);
        assert_eq!(gate(0x1_008e), [0x0001_8e00_0008_008e, 0]);
    }

    #[test]
    fn the_image_fits_its_memory() {
        assert!(image().iter().all(|(address, _)| *address as usize + 8 <= MEMORY_BYTES && address % 8 == 0));
    }
}
