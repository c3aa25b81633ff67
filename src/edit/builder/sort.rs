//! Sorts edits that were not written in ascending order.

use crate::edit::edits::Edits;
use crate::edit::error::Result;
use crate::edit::spooled::SpooledBytes;

impl Edits {
    /// Sorts the edits in ascending order, and their bytes with them.
    pub(super) fn sort(&mut self) -> Result<()> {
        let edits = self;
        // Where the bytes that each edit expects begin, if that differs from where its new bytes do.
        let mut expects = Vec::new();
        if !edits.notes.iter().all(|note| note.expects()) {
            let mut end = 0;
            expects.extend(edits.list.iter().zip(&edits.notes).map(|(edit, note)| {
                let begin = end;
                end += if note.expects() { edit.len() } else { 0 };
                begin
            }));
        }
        // Sorted in place, because there may not be enough memory for a second list of ten million.
        let mut order: Vec<u32> = (0..edits.list.len() as u32).collect();
        order.sort_unstable_by_key(|index| (edits.list[*index as usize].at(), *index));
        permute(&mut order, |one, other| {
            edits.list.swap(one, other);
            edits.notes.swap(one, other);
            if !expects.is_empty() {
                expects.swap(one, other);
            }
        });
        drop(order);
        let (mut new, mut expected) = (SpooledBytes::default(), SpooledBytes::default());
        let mut buf = vec![0; 64 << 10];
        for (index, (edit, note)) in edits.list.iter_mut().zip(&edits.notes).enumerate() {
            let from = std::mem::replace(&mut edit.from, new.len());
            copy(&mut edits.new, from, edit.len(), &mut new, &mut buf)?;
            if note.expects() {
                let from = expects.get(index).copied().unwrap_or(from);
                copy(&mut edits.expected, from, edit.len(), &mut expected, &mut buf)?;
            }
        }
        (edits.new, edits.expected) = (new, expected);
        Ok(())
    }
}

/// Moves to each index the element at the index that `order` gives for it, by swapping two elements at a time. `order`
/// is used up.
fn permute(order: &mut [u32], mut swap: impl FnMut(usize, usize)) {
    for start in 0..order.len() {
        let mut place = start;
        // Follows one cycle of the permutation.
        loop {
            let next = std::mem::replace(&mut order[place], place as u32) as usize;
            if next == start {
                break;
            }
            swap(place, next);
            place = next;
        }
    }
}

/// Appends the `len` bytes of `source` from `from` on to `to`, using `buf` as the buffer.
fn copy(source: &mut SpooledBytes, from: u64, len: u64, to: &mut SpooledBytes, buf: &mut [u8]) -> Result<()> {
    let (mut from, end) = (from, from + len);
    while from < end {
        let part = buf.len().min((end - from) as usize);
        source.read_at(from, &mut buf[..part])?;
        to.push(&buf[..part])?;
        from += part as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_come_where_the_order_says() {
        let mut order = [3, 1, 0, 2, 5, 6, 4];
        let mut list = ["a", "b", "c", "d", "e", "f", "g"];
        permute(&mut order, |one, other| list.swap(one, other));
        assert_eq!(list, ["d", "b", "a", "c", "f", "g", "e"]);
        permute(&mut [], |_, _| unreachable!());
    }
}
