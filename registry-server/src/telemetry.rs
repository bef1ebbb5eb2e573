//! The logs: the server's own on standard error, the access log on standard output, as CNCF distribution has them.

use std::fmt;
use std::io;

use tracing::level_filters::LevelFilter;
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter, format, layer};
use tracing_subscriber::layer::{Layer, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::{Formatter, Level, Log};

/// Target of the events that make up the access log.
pub const ACCESS_LOG: &str = "access";

/// Begins to log as the section `log` says, for the rest of the process.
pub fn start(settings: &Log) {
    subscriber(settings, io::stdout, io::stderr).init();
}

fn subscriber<A, O>(settings: &Log, access: A, own: O) -> impl Subscriber + Send + Sync
where
    A: for<'w> MakeWriter<'w> + Send + Sync + 'static,
    O: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let access_level = if settings.accesslog.disabled { LevelFilter::OFF } else { LevelFilter::INFO };
    let access_log = Targets::new().with_target(ACCESS_LOG, access_level);
    let level = match settings.level {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
    };
    // The steps of libraries drown those of the server.
    let own_log = Targets::new()
        .with_default(level.min(LevelFilter::INFO))
        .with_target(env!("CARGO_CRATE_NAME"), level)
        .with_target(ACCESS_LOG, LevelFilter::OFF);
    tracing_subscriber::registry()
        .with(lines(settings, access).with_filter(access_log))
        .with(lines(settings, own).with_filter(own_log))
}

/// A layer that writes lines in the form that is set.
fn lines<S, W>(settings: &Log, writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'s> LookupSpan<'s>,
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let fields = settings.fields.iter();
    match settings.formatter {
        Formatter::Text => {
            let fields = fields.map(|(key, value)| format!(" {key}={value}")).collect::<Vec<_>>().concat();
            let form = WithFields { form: format().with_ansi(false), fields, ends_at: '\n' };
            layer().event_format(form).with_writer(writer).boxed()
        }
        Formatter::Json => {
            let fields = fields.map(|(key, value)| format!(",{}:{value}", serde_json::json!(key)));
            let fields = fields.collect::<Vec<_>>().concat();
            let form = WithFields { form: format().json().flatten_event(true), fields, ends_at: '}' };
            layer().json().event_format(form).with_writer(writer).boxed()
        }
    }
}

/// A form of lines with further fields at the end of each.
struct WithFields<F> {
    form: F,
    fields: String,
    /// The last `ends_at` of a line closes it: the fields go before.
    ends_at: char,
}

impl<S, N, F> FormatEvent<S, N> for WithFields<F>
where
    S: Subscriber + for<'s> LookupSpan<'s>,
    N: for<'w> FormatFields<'w> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        if self.fields.is_empty() {
            return self.form.format_event(context, writer, event);
        }
        let mut line = String::new();
        self.form.format_event(context, Writer::new(&mut line), event)?;
        let (body, end) = line.split_at(line.rfind(self.ends_at).unwrap_or(line.len()));
        write!(writer, "{body}{}{end}", self.fields)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use serde_json::{Value, json};

    use super::*;
    use crate::config::AccessLog;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What a run with these settings writes to the access log and to the server's own.
    fn logged(settings: &Log) -> (String, String) {
        let (access, own) = (Lines::default(), Lines::default());
        let writers = (access.clone(), own.clone());
        let subscriber = subscriber(settings, move || writers.0.clone(), move || writers.1.clone());
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(target: ACCESS_LOG, status = 200, "GET /v2/");
            tracing::error!(reason = "full", "failed");
            tracing::info!("started");
            tracing::debug!("step");
            tracing::debug!(target: "hyper::proto", "step of a library");
        });
        let text = |lines: Lines| String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        (text(access), text(own))
    }

    #[test]
    fn the_level_rules_the_own_log_and_the_access_log_has_its_own_switch() {
        let rows = [
            (Level::Error, false, 1, 1),
            (Level::Info, false, 1, 2),
            (Level::Debug, false, 1, 3),
            (Level::Info, true, 0, 2),
        ];
        for (level, disabled, access_lines, own_lines) in rows {
            let settings = Log { level, accesslog: AccessLog { disabled }, ..Log::default() };
            let (access, own) = logged(&settings);
            assert_eq!(
                (access.lines().count(), own.lines().count()),
                (access_lines, own_lines),
                "{access}{own}"
            );
        }
    }

    #[test]
    fn text_lines_end_with_the_fields_that_are_set() {
        let fields = [("service".to_owned(), json!("hub")), ("zone".to_owned(), json!(3))].into();
        let (access, own) = logged(&Log { fields, ..Log::default() });
        let first = own.lines().next().unwrap();
        assert!(
            first.contains("ERROR") && first.ends_with("failed reason=\"full\" service=\"hub\" zone=3"),
            "{first}"
        );
        assert!(access.contains("GET /v2/ status=200"), "{access}");
    }

    #[test]
    fn json_lines_are_objects_with_the_fields_that_are_set() {
        let fields = [("service".to_owned(), json!("a \"hub\" }"))].into();
        let (access, own) = logged(&Log { formatter: Formatter::Json, fields, ..Log::default() });
        let object: Value = serde_json::from_str(own.lines().next().unwrap()).unwrap();
        assert_eq!(object["message"], "failed");
        assert_eq!(object["level"], "ERROR");
        assert_eq!(object["reason"], "full");
        assert_eq!(object["service"], "a \"hub\" }");
        let object: Value = serde_json::from_str(&access).unwrap();
        assert_eq!((&object["target"], &object["status"]), (&json!(ACCESS_LOG), &json!(200)));
    }
}
