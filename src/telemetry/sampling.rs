//! Whether a trace is recorded: decided once, as the request comes, by what those before it decided or by its number.
//! Source: OpenTelemetry's specification of samplers, and of `OTEL_TRACES_SAMPLER`.

/// Which traces are recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampler {
    /// Whether who came before decides, where somebody did.
    pub by_parent: bool,
    /// Of the others, those whose number is below it.
    pub below: u64,
}

/// All numbers that a trace may have in this regard are below it.
const ALL: u64 = 1 << 63;

impl Sampler {
    /// All that nobody has decided against.
    pub const DEFAULT: Self = Self { by_parent: true, below: ALL };

    /// Reads the name of a sampler and its argument, a share between 0 and 1; `None`: there is no such sampler.
    #[must_use]
    pub fn named(name: &str, argument: Option<&str>) -> Option<Self> {
        let (by_parent, root) = name.strip_prefix("parentbased_").map_or((false, name), |root| (true, root));
        let below = match root {
            "always_on" => ALL,
            "always_off" => 0,
            "traceidratio" => share(argument.map_or(Some(1.0), |text| text.trim().parse().ok())?)?,
            _ => return None,
        };
        Some(Self { by_parent, below })
    }

    /// Whether a trace is recorded: one that `parent` has decided on, or with these last 64 bits of its number.
    #[inline]
    #[must_use]
    pub fn takes(self, parent: Option<bool>, last_bits: impl FnOnce() -> u64) -> bool {
        match parent {
            Some(sampled) if self.by_parent => sampled,
            _ => self.below == ALL || (self.below > 0 && last_bits() >> 1 < self.below),
        }
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of 2^63 is below it")]
fn share(part: f64) -> Option<u64> {
    (0.0..=1.0).contains(&part).then(|| (part * 2_f64.powi(63)) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samplers_have_the_names_of_the_specification() {
        for (name, argument, want) in [
            ("always_on", None, Some((false, ALL))),
            ("always_off", None, Some((false, 0))),
            ("traceidratio", Some("0.5"), Some((false, 1 << 62))),
            ("traceidratio", None, Some((false, ALL))),
            ("parentbased_always_on", Some("ignored"), Some((true, ALL))),
            ("parentbased_always_off", None, Some((true, 0))),
            ("parentbased_traceidratio", Some("0.25"), Some((true, 1 << 61))),
            ("parentbased_traceidratio", Some("2"), None),
            ("traceidratio", Some("half"), None),
            ("sometimes", None, None),
        ] {
            let want = want.map(|(by_parent, below)| Sampler { by_parent, below });
            assert_eq!(Sampler::named(name, argument), want, "{name} {argument:?}");
        }
    }

    #[test]
    fn who_came_before_decides_else_the_number_does() {
        let named = |name, argument| Sampler::named(name, argument).unwrap();
        for (sampler, parent, bits, takes) in [
            (Sampler::DEFAULT, None, u64::MAX, true),
            (Sampler::DEFAULT, Some(false), 0, false),
            (Sampler::DEFAULT, Some(true), 0, true),
            (named("always_on", None), Some(false), 0, true),
            (named("always_off", None), Some(true), 0, false),
            (named("parentbased_always_off", None), Some(true), 0, true),
            (named("parentbased_always_off", None), None, 0, false),
            (named("parentbased_traceidratio", Some("0.5")), None, (1 << 63) - 1, true),
            (named("parentbased_traceidratio", Some("0.5")), None, 1 << 63, false),
            (named("traceidratio", Some("0.5")), Some(true), 1 << 63, false),
            (named("traceidratio", Some("0")), None, 0, false),
        ] {
            assert_eq!(sampler.takes(parent, || bits), takes, "{sampler:?} {parent:?} {bits}");
        }
    }
}
