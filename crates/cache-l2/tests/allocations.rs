//! A record, however false, allocates no more at once than the limit of its namespace.

#![allow(
    unsafe_code,
    clippy::unwrap_used,
    reason = "a global allocator can only be implemented so; it passes everything on to the system's; a test may panic"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use cache_events::{Key, Namespace};
use cache_l2::{BincodeCodec, Codec, HEADER_BYTES, JsonCodec, RecordFormat, RecordHead};

thread_local! {
    /// The largest request since it was last reset; per thread, so that the test harness does not disturb.
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

struct Noting;

fn note(size: usize) {
    LARGEST.set(LARGEST.get().max(size));
}

// SAFETY: every call goes to `System` with the arguments it came with; the note is a thread-local without a
// destructor and without an initialiser that allocates.
unsafe impl GlobalAlloc for Noting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Noting = Noting;

const LIMIT: usize = 1024 * 1024;

/// A record with this payload and a right checksum.
fn forged(key: &Key, codec: u8, compression: u8, raw_len: u32, payload: &[u8]) -> Vec<u8> {
    let sealed = RecordFormat::new(1).seal(&RecordHead::default(), key, Some(&0_u8), &BincodeCodec).unwrap();
    let mut record = sealed[..HEADER_BYTES].to_vec();
    record[56..58].copy_from_slice(&[codec, compression]);
    record[74..78].copy_from_slice(&raw_len.to_be_bytes());
    record.extend(payload);
    let sum = crc32c::crc32c_append(crc32c::crc32c(&record[..4]), &record[20..]);
    record.extend(sum.to_be_bytes());
    record
}

#[test]
fn false_lengths_allocate_no_more_than_the_limit() {
    let key = Key::new(&Namespace::new("gpu_info").unwrap(), "H100").unwrap();
    let format = RecordFormat { value_bytes_max: LIMIT, ..RecordFormat::new(1) };
    // Lengths as bincode writes them, of 2, 4 and 8 bytes, alone and in front of some bytes.
    let mut payloads = vec![vec![], vec![0xff; 40]];
    for length in [70_000_u64, 1 << 20, 200_000_000, u64::from(u32::MAX), 1 << 40, u64::MAX] {
        let mut payload = vec![0xfd];
        payload.extend(length.to_le_bytes());
        payloads.push(payload.clone());
        payload.extend([1; 5_000]);
        payloads.push(payload);
    }
    for payload in payloads {
        for (compression, raw_len) in
            [(0, payload.len()), (1, payload.len()), (1, LIMIT), (1, LIMIT + 1), (1, u32::MAX as usize)]
        {
            let record = |codec| forged(&key, codec, compression, raw_len as u32, &payload);
            let (bincode, json) = (record(BincodeCodec::ID), record(JsonCodec::ID));
            LARGEST.set(0);
            open::<String>(&format, &bincode, &key, &BincodeCodec);
            open::<Vec<u8>>(&format, &bincode, &key, &BincodeCodec);
            open::<Vec<(String, Vec<u128>)>>(&format, &bincode, &key, &BincodeCodec);
            open::<Vec<String>>(&format, &json, &key, &JsonCodec);
            let largest = LARGEST.get();
            assert!(largest <= LIMIT, "{largest} bytes at once for a payload of {}", payload.len());
        }
    }
}

fn open<V: 'static>(format: &RecordFormat, record: &[u8], key: &Key, codec: &dyn Codec<V>) {
    // It may open or not.
    let _ = format.open(record, key, codec);
}
