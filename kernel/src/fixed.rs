//! Containers of fixed capacity, for the time before there is a heap.

use core::fmt;

/// At most `N` values in place.
#[derive(Debug, Clone, Copy)]
pub struct List<T, const N: usize> {
    items: [T; N],
    len: usize,
}

impl<T: Copy + Default, const N: usize> List<T, N> {
    /// An empty list.
    pub fn new() -> Self {
        Self { items: [T::default(); N], len: 0 }
    }

    /// Appends `item`.
    ///
    /// # Errors
    /// [`Full`] if there are `N` already; the list is unchanged.
    pub fn push(&mut self, item: T) -> Result<(), Full> {
        *self.items.get_mut(self.len).ok_or(Full)? = item;
        self.len += 1;
        Ok(())
    }

    /// Inserts `item` before the one at `index`, or at the end if there is none.
    ///
    /// # Errors
    /// [`Full`] if there are `N` already; the list is unchanged.
    pub fn insert(&mut self, index: usize, item: T) -> Result<(), Full> {
        self.push(item)?;
        let index = index.min(self.len - 1);
        self.items[index..self.len].rotate_right(1);
        Ok(())
    }

    /// Keeps the first `len` items.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }
}

impl<T: Copy + Default, const N: usize> Default for List<T, N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T, const N: usize> core::ops::Deref for List<T, N> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.items[..self.len]
    }
}

impl<T, const N: usize> core::ops::DerefMut for List<T, N> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.items[..self.len]
    }
}

/// There is no room for another item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// At most `N` bytes of text in place; writing beyond that keeps what fits.
#[derive(Clone, Copy)]
pub struct Text<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Text<N> {
    /// Empty text.
    pub const fn new() -> Self {
        Self { bytes: [0; N], len: 0 }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(&self.bytes[..self.len]).unwrap_or("")
    }

    /// Makes it empty.
    pub fn clear(&mut self) {
        self.len = 0;
    }
}

impl<const N: usize> Default for Text<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> fmt::Write for Text<N> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut fits = text.len().min(N - self.len);
        while !text.is_char_boundary(fits) {
            fits -= 1;
        }
        self.bytes[self.len..self.len + fits].copy_from_slice(&text.as_bytes()[..fits]);
        self.len += fits;
        if fits == text.len() { Ok(()) } else { Err(fmt::Error) }
    }
}

impl<const N: usize> fmt::Display for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl<const N: usize> fmt::Debug for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use core::fmt::Write;

    use super::*;

    #[test]
    fn a_full_list_refuses_and_stays_as_it_was() {
        let mut list = List::<u8, 2>::new();
        assert_eq!((list.push(1), list.insert(0, 2), list.push(3)), (Ok(()), Ok(()), Err(Full)));
        assert_eq!(list[..], [2, 1]);
        assert_eq!(list.insert(0, 9), Err(Full));
        assert_eq!(list[..], [2, 1]);
    }

    #[test]
    fn text_beyond_the_capacity_is_cut_between_characters() {
        let mut text = Text::<4>::new();
        assert!(text.write_str("aß€").is_err());
        assert_eq!(text.as_str(), "aß");
        assert!(text.write_str("c").is_ok());
        assert_eq!(text.as_str(), "aßc");
    }
}
