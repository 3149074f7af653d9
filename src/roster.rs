//! Live objects that a new snapshot adopts by identity rather than rebuilds.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Weak},
};

/// Hands out the object that already lives under a key, or makes a new one.
/// It keeps nothing alive: what no snapshot and no request refers to is dropped.
#[derive(Debug)]
pub struct Roster<K, V> {
    known: HashMap<K, Weak<V>>,
    /// With so many keys it is time to look which of them are dead: never with each change, which may be one of ten
    /// thousand, and so often that the dead are no more than the living.
    full: usize,
}

/// So few keys are never too many.
const FEW: usize = 256;

impl<K, V> Default for Roster<K, V> {
    fn default() -> Self {
        Self { known: HashMap::new(), full: FEW }
    }
}

impl<K: Eq + Hash, V> Roster<K, V> {
    /// The object under `key`, made now if none is alive.
    pub fn adopt(&mut self, key: K, make: impl FnOnce() -> V) -> Arc<V> {
        if let Some(alive) = self.known.get(&key).and_then(Weak::upgrade) {
            return alive;
        }
        self.replace(key, make())
    }

    /// Puts an object under `key`, whatever lives there.
    pub fn replace(&mut self, key: K, fresh: V) -> Arc<V> {
        if self.known.len() >= self.full {
            self.forget_dead();
        }
        let fresh = Arc::new(fresh);
        self.known.insert(key, Arc::downgrade(&fresh));
        fresh
    }

    /// Every key whose object lives, with the object.
    pub fn living(&self) -> impl Iterator<Item = (&K, Arc<V>)> {
        self.known.iter().filter_map(|(k, v)| Some((k, v.upgrade()?)))
    }

    /// Lets go of the keys whose objects are gone.
    pub fn forget_dead(&mut self) {
        self.known.retain(|_, v| v.strong_count() > 0);
        self.full = (2 * self.known.len()).max(FEW);
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
        assert!(roster.known.is_empty());
    }

    #[test]
    fn keys_of_the_dead_do_not_pile_up() {
        let mut roster = Roster::default();
        let kept: Vec<_> = (0..FEW).map(|key| roster.adopt(key, || ())).collect();
        for key in FEW..20 * FEW {
            drop(roster.adopt(key, || ()));
            assert!(roster.known.len() <= 2 * FEW, "{}", roster.known.len());
        }
        assert_eq!(roster.living().count(), kept.len());
    }
}
