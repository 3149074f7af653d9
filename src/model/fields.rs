//! The fields of a message, in the order in which they came. A list: most messages have few, and to look through these
//! costs less than a table by name does to be built. How many there may be is bounded by who reads them.

use std::{fmt, ops::Range};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::{
    field::{Name, Named},
    value::{Stored, Value},
};

/// Fields, also several of one name.
#[derive(Clone, Default)]
pub struct Fields {
    /// The head that they were read from. To count each value as a part of it costs more than to know where it lies.
    head: Bytes,
    list: Vec<(Name, Stored)>,
}

/// It lies beyond the head, or holds what no value may: a control byte other than the tab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoValue;

impl Fields {
    /// None.
    #[must_use]
    pub const fn new() -> Self {
        Self { head: Bytes::new(), list: Vec::new() }
    }

    /// None, with room for so many.
    #[must_use]
    pub fn with_capacity(count: usize) -> Self {
        Self { head: Bytes::new(), list: Vec::with_capacity(count) }
    }

    /// None yet of those that are to be read from this head, with room for so many.
    #[must_use]
    pub fn of(head: Bytes, count: usize) -> Self {
        Self { head, list: Vec::with_capacity(count) }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Whether there is one of this name.
    #[inline]
    #[must_use]
    pub fn contains_key(&self, name: impl Named) -> bool {
        self.find(name).is_some()
    }

    #[inline]
    #[expect(
        clippy::needless_pass_by_value,
        reason = "most names are constants, which have no place to be borrowed from"
    )]
    fn find(&self, name: impl Named) -> Option<&Stored> {
        self.list.iter().find(|(known, _)| name.is(known)).map(|(_, value)| value)
    }

    /// The value of the first of this name.
    #[inline]
    #[must_use]
    pub fn get(&self, name: impl Named) -> Option<Value<'_>> {
        self.find(name).map(|value| value.value(&self.head))
    }

    /// The same, for who keeps it.
    #[inline]
    #[must_use]
    pub fn get_owned(&self, name: impl Named) -> Option<HeaderValue> {
        self.find(name).map(|value| value.clone().into_owned(&self.head))
    }

    /// The values of all of this name.
    #[inline]
    pub fn get_all(&self, name: impl Named) -> impl DoubleEndedIterator<Item = Value<'_>> {
        self.list.iter().filter(move |(known, _)| name.is(known)).map(|(_, value)| value.value(&self.head))
    }

    /// The value of the one of this name, where there is but one.
    #[inline]
    #[must_use]
    pub fn only(&self, name: impl Named) -> Option<Value<'_>> {
        let mut all = self.get_all(name);
        all.next().filter(|_| all.next().is_none())
    }

    /// Sets the one field of this name, in the place of the first that there was.
    pub fn insert(&mut self, name: impl Into<Name>, value: HeaderValue) {
        let name = name.into();
        let Some(first) = self.list.iter().position(|(known, _)| *known == name) else {
            return self.append(name, value);
        };
        self.list[first].1 = Stored::Own(value);
        let mut is_set = false;
        self.list.retain(|(known, _)| *known != name || !std::mem::replace(&mut is_set, true));
    }

    /// Makes room for another one, so that what is made next can be put there at once.
    #[inline]
    pub fn make_room(&mut self) {
        self.list.reserve(1);
    }

    /// Adds a field, also beside others of this name.
    #[inline]
    pub fn append(&mut self, name: impl Into<Name>, value: HeaderValue) {
        self.list.push((name.into(), Stored::Own(value)));
    }

    /// Adds one whose value lies there in the head.
    ///
    /// # Errors
    /// It is none.
    #[inline]
    pub fn append_read(&mut self, name: impl Into<Name>, value: Range<usize>) -> Result<(), NoValue> {
        self.push_read(name.into(), value, false)
    }

    /// The same for one that HTTP/2 sent as one that no table may hold: who passes it on has to say so too. Source: RFC 7541
    /// §7.1.3.
    ///
    /// # Errors
    /// It is none.
    #[inline]
    pub fn append_secret(&mut self, name: impl Into<Name>, value: Range<usize>) -> Result<(), NoValue> {
        self.push_read(name.into(), value, true)
    }

    #[inline]
    fn push_read(&mut self, name: Name, value: Range<usize>, is_secret: bool) -> Result<(), NoValue> {
        self.head.get(value.clone()).and_then(Value::of).ok_or(NoValue)?;
        let end = |at: usize| u32::try_from(at).map_err(|_| NoValue);
        self.list.push((name, Stored::Read { place: end(value.start)?..end(value.end)?, is_secret }));
        Ok(())
    }

    /// The last one.
    #[inline]
    #[must_use]
    pub fn last(&self) -> Option<(&HeaderName, Value<'_>)> {
        self.list.last().map(|(name, value)| (&**name, value.value(&self.head)))
    }

    /// Takes the last one out.
    #[inline]
    pub fn pop(&mut self) {
        self.list.pop();
    }

    /// Takes all of this name out.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "most names are constants, which have no place to be borrowed from"
    )]
    pub fn remove(&mut self, name: impl Named) {
        self.list.retain(|(known, _)| !name.is(known));
    }

    /// Takes out those for which `keeps` does not say otherwise.
    #[inline]
    pub fn retain(&mut self, mut keeps: impl FnMut(&Name) -> bool) {
        self.list.retain(|(name, _)| keeps(name));
    }

    /// All of them, in order.
    #[inline]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&HeaderName, Value<'_>)> {
        self.list.iter().map(|(name, value)| (&**name, value.value(&self.head)))
    }

    /// The same, for who writes them.
    #[inline]
    pub fn named(&self) -> impl Iterator<Item = (&Name, Value<'_>)> {
        self.list.iter().map(|(name, value)| (name, value.value(&self.head)))
    }

    /// The same, for who writes them over HTTP/2, and whether no table may hold the value.
    #[inline]
    pub fn lines(&self) -> impl Iterator<Item = (&Name, Value<'_>, bool)> {
        self.list.iter().map(|(name, value)| (name, value.value(&self.head), value.is_secret()))
    }

    /// Takes the blanks around all values off, which are no part of them. Source: RFC 9110 §5.5.
    pub fn strip(&mut self) {
        for (_, value) in &mut self.list {
            value.strip(&self.head);
        }
    }

    /// The head that they were read from.
    #[inline]
    #[must_use]
    pub fn head(&self) -> &Bytes {
        &self.head
    }

    /// The same as a table by name.
    #[must_use]
    pub fn into_map(self) -> HeaderMap {
        let head = self.head;
        map(self.list.len(), self.list.into_iter().map(|(name, value)| (name.into(), value.into_owned(&head))))
    }
}

impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl PartialEq for Fields {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Fields {}

/// Beyond what any message may have, the rest is left out.
fn map(room: usize, fields: impl Iterator<Item = (HeaderName, HeaderValue)>) -> HeaderMap {
    let mut map = HeaderMap::try_with_capacity(room).unwrap_or_default();
    for (name, value) in fields {
        if map.try_append(name, value).is_err() {
            break;
        }
    }
    map
}

impl From<HeaderMap> for Fields {
    fn from(map: HeaderMap) -> Self {
        let mut fields = Self::with_capacity(map.len() + ROOM);
        for (name, value) in map {
            // Those of one name come together, and only the first says which.
            if let Some(name) = name.or_else(|| fields.last().map(|(name, _)| name.clone())) {
                fields.append(name, value);
            }
        }
        fields
    }
}

/// Fields that a gateway adds to what comes.
const ROOM: usize = 2;

impl FromIterator<(HeaderName, HeaderValue)> for Fields {
    fn from_iter<I: IntoIterator<Item = (HeaderName, HeaderValue)>>(fields: I) -> Self {
        let mut all = Self::new();
        all.extend(fields);
        all
    }
}

impl Extend<(HeaderName, HeaderValue)> for Fields {
    fn extend<I: IntoIterator<Item = (HeaderName, HeaderValue)>>(&mut self, fields: I) {
        self.list.extend(fields.into_iter().map(|(name, value)| (name.into(), Stored::Own(value))));
    }
}

#[cfg(test)]
impl Fields {
    /// The text of the first of this name, which there has to be.
    #[track_caller]
    pub fn text(&self, name: &str) -> &str {
        let Some(value) = self.get(name).and_then(Value::to_str) else { panic!("no field `{name}` of text") };
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(lines: &[(&'static str, &'static str)]) -> Fields {
        lines.iter().map(|&(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    /// Standard names and others are not compared in the same way.
    const NAMES: [&str; 2] = ["accept", "x-own"];

    #[test]
    fn what_is_set_is_the_one_of_its_name_in_the_first_ones_place() {
        for name in NAMES {
            for (before, after) in [
                (&[][..], &[(name, "new")][..]),
                (&[("etag", "1")], &[("etag", "1"), (name, "new")]),
                (&[(name, "a"), ("etag", "1")], &[(name, "new"), ("etag", "1")]),
                (
                    &[("etag", "1"), (name, "a"), ("date", "2"), (name, "b"), (name, "c"), ("etag", "3")],
                    &[("etag", "1"), (name, "new"), ("date", "2"), ("etag", "3")],
                ),
            ] {
                let mut set = fields(before);
                set.insert(HeaderName::from_static(name), HeaderValue::from_static("new"));
                assert_eq!(set, fields(after));
            }
        }
    }

    #[test]
    fn all_of_a_name_are_taken_out_and_no_others() {
        for name in NAMES {
            let mut some = fields(&[("etag", "1"), (name, "a"), ("date", "2"), (name, "b")]);
            assert_eq!(some.only(name), None);
            assert_eq!(some.only("date").unwrap(), "2");
            assert_eq!(some.get_all(name).collect::<Vec<_>>(), ["a", "b"]);
            assert_eq!(some.get_owned(name).unwrap(), "a");
            some.remove(name);
            assert_eq!(some, fields(&[("etag", "1"), ("date", "2")]));
            assert_eq!((some.get_owned(name), some.contains_key(name), some.len()), (None, false, 2));
        }
    }

    #[test]
    fn who_writes_them_is_told_which_no_table_may_hold() {
        let mut some = Fields::of(Bytes::from_static(b"open secret\0"), 2);
        some.append_read(HeaderName::from_static("x-own"), 0..4).unwrap();
        some.append_secret(HeaderName::from_static("x-own"), 5..11).unwrap();
        assert_eq!(some.append_secret(HeaderName::from_static("x-own"), 5..12), Err(NoValue));
        let mut own = HeaderValue::from_static("own");
        some.append(HeaderName::from_static("x-own"), own.clone());
        own.set_sensitive(true);
        some.append(HeaderName::from_static("x-own"), own);
        let expected = [("open", false), ("secret", true), ("own", false), ("own", true)];
        assert!(some.lines().map(|(_, value, is_secret)| (value.to_str().unwrap(), is_secret)).eq(expected));
        let map = some.into_map();
        assert!(map.values().map(|value| (value.to_str().unwrap(), value.is_sensitive())).eq(expected));
    }

    #[test]
    fn http_2_has_the_same_fields_and_values_of_one_name_in_their_order() {
        let all = [("x-own", "a"), ("accept", "1"), ("x-own", "b"), ("accept", "2"), ("x-own", "c")];
        let map = fields(&all).into_map();
        assert_eq!(map.get_all("x-own").iter().collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!((map.get_all("accept").iter().count(), map.len()), (2, 5));
        let back = Fields::from(map.clone());
        assert_eq!(back.len(), 5);
        for name in NAMES {
            assert!(back.get_all(name).eq(fields(&all).get_all(name)), "{name}");
        }
    }
}
