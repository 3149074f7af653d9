//! Where the access log and the traces go.

use std::sync::Arc;

use tokio::task::JoinSet;

use crate::{
    config::Config,
    telemetry::{
        access::AccessLog,
        metrics::Metrics,
        otlp::{self, Tracer},
    },
};

/// Has the access log go where the configuration says.
pub fn access(access: &Arc<AccessLog>, config: &Config) {
    let rules = &config.telemetry;
    if let Err(error) = access.set(&rules.access_log, rules.access_format) {
        tracing::warn!(%error, "there is no access log");
    }
}

/// Has traces go where the configuration says; also gives the task that sends them.
pub fn traces(config: &Config, metrics: &Metrics) -> (Option<Arc<Tracer>>, Option<JoinSet<()>>) {
    for ignored in &config.telemetry.ignored {
        tracing::warn!("{ignored}");
    }
    let Some(settings) = &config.telemetry.otlp else { return (None, None) };
    match otlp::open(settings, metrics) {
        Ok((tracer, export)) => {
            let mut task = JoinSet::new();
            task.spawn(export.run());
            tracing::info!(collector = settings.endpoint, "traces are sent");
            (Some(tracer), Some(task))
        }
        Err(error) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "no traces are sent");
            (None, None)
        }
    }
}
