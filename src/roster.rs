//! Live objects that a new snapshot adopts by identity rather than rebuilds.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Weak},
};

/// Hands out the object that already lives under a key, or makes a new one.
/// It keeps nothing alive: what no snapshot and no request refers to is dropped.
#[derive(Debug)]
pub struct Roster<K, V>(HashMap<K, Weak<V>>);

impl<K, V> Default for Roster<K, V> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Eq + Hash, V> Roster<K, V> {
    /// The object under `key`, made now if none is alive.
    pub fn adopt(&mut self, key: K, make: impl FnOnce() -> V) -> Arc<V> {
        if let Some(alive) = self.0.get(&key).and_then(Weak::upgrade) {
            return alive;
        }
        let fresh = Arc::new(make());
        self.0.insert(key, Arc::downgrade(&fresh));
        fresh
    }

    /// Puts an object under `key`, whatever lives there.
    pub fn replace(&mut self, key: K, fresh: V) -> Arc<V> {
        let fresh = Arc::new(fresh);
        self.0.insert(key, Arc::downgrade(&fresh));
        fresh
    }

    /// Every key whose object lives, with the object.
    pub fn living(&self) -> impl Iterator<Item = (&K, Arc<V>)> {
        self.0.iter().filter_map(|(k, v)| Some((k, v.upgrade()?)))
    }

    /// Lets go of the keys whose objects are gone.
    pub fn forget_dead(&mut self) {
        self.0.retain(|_, v| v.strong_count() > 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lives_is_adopted_and_what_died_is_made_anew() {
        let mut roster = Roster::default();
        let first = roster.adopt("a", || 1);
        assert!(Arc::ptr_eq(&first, &roster.adopt("a", || 2)));
        assert_eq!(roster.living().count(), 1);
        drop(first);
        assert_eq!(roster.living().count(), 0);
        assert_eq!(*roster.adopt("a", || 3), 3);
        roster.forget_dead();
        assert!(roster.0.is_empty());
    }
}
