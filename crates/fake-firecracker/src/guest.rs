//! A guest of a few instructions: it prints a greeting on its serial port and then counts in its memory for
//! ever. It needs only a processor; the fake imitates it.

/// Its greeting.
pub const GREETING: &[u8] = b"mimeo\n";
/// What it prints each time its count is a multiple of [`ROUND`].
pub const TICK: u8 = b'.';
/// Counts between two ticks: a power of two.
pub const ROUND: u64 = 0x4000;
/// The address of its counter: a 64-bit word of its memory.
pub const COUNTER: u64 = 0x20_0000;

/// Its load address and entry point.
const ENTRY: u64 = 0x10_0000;
const HEADER_BYTES: u16 = 64;
const SEGMENT_BYTES: u16 = 56;

#[rustfmt::skip]
const COUNTING: &[u8] = &[
    0xbf, 0x00, 0x00, 0x20, 0x00,       // mov  $COUNTER,%edi
    0x48, 0xff, 0x07,                   // again: incq (%rdi)
    0x48, 0x8b, 0x07,                   // mov  (%rdi),%rax
    0xa9, 0xff, 0x3f, 0x00, 0x00,       // test $(ROUND - 1),%eax
    0x75, 0xf3,                         // jne  again
    0xb0, TICK,                         // mov  $TICK,%al
    0xee,                               // out  %al,(%dx)
    0xeb, 0xee,                         // jmp  again
];

/// Prints the greeting, and continues with `then`.
fn code(then: &[u8]) -> Vec<u8> {
    const SERIAL_PORT: [u8; 4] = [0x66, 0xba, 0xf8, 0x03]; // mov $0x3f8,%dx
    let mut code = SERIAL_PORT.to_vec();
    // mov $byte,%al; out %al,(%dx)
    code.extend(GREETING.iter().flat_map(|byte| [0xb0, *byte, 0xee]));
    code.extend(then);
    code
}

/// The guest as an ELF kernel.
#[must_use]
pub fn elf() -> Vec<u8> {
    kernel(COUNTING)
}

/// Another guest as an ELF kernel: it resets the machine after its greeting.
#[must_use]
pub fn resetting_elf() -> Vec<u8> {
    // mov $0xfe,%al; out %al,$0x64: reset by the keyboard controller.
    kernel(&[0xb0, 0xfe, 0xe6, 0x64, 0xf4])
}

/// An ELF file with one segment.
fn kernel(then: &[u8]) -> Vec<u8> {
    const OFFSET: u64 = 0x1000;
    let code = code(then);
    let length = (code.len() as u64).to_le_bytes();
    let mut file = Vec::new();
    file.extend([0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    file.extend([2_u16, 62].map(u16::to_le_bytes).concat()); // executable, x86-64
    file.extend(1_u32.to_le_bytes());
    file.extend([ENTRY, u64::from(HEADER_BYTES), 0].map(u64::to_le_bytes).concat());
    file.extend(0_u32.to_le_bytes());
    file.extend([HEADER_BYTES, SEGMENT_BYTES, 1, 64, 0, 0].map(u16::to_le_bytes).concat());
    file.extend([1_u32, 7].map(u32::to_le_bytes).concat()); // PT_LOAD, read, write, execute
    file.extend([OFFSET, ENTRY, ENTRY].map(u64::to_le_bytes).concat());
    file.extend([length, OFFSET.to_le_bytes(), OFFSET.to_le_bytes()].concat());
    file.resize(OFFSET as usize, 0);
    file.extend(code);
    file
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_says_what_the_constants_say() {
        assert_eq!(u64::from(u32::from_le_bytes([0, 0, 0x20, 0])), COUNTER);
        assert_eq!(COUNTING[1..5], (COUNTER as u32).to_le_bytes());
        assert_eq!(COUNTING[12..16], (ROUND as u32 - 1).to_le_bytes());
    }

    #[test]
    fn the_file_is_what_a_loader_reads() {
        let file = elf();
        assert_eq!(&file[..4], b"\x7fELF");
        assert_eq!(file[24..32], ENTRY.to_le_bytes());
        assert_eq!(file[64..68], [1, 0, 0, 0]);
        assert_eq!(file[0x1000..0x1004], [0x66, 0xba, 0xf8, 0x03]);
    }
}
