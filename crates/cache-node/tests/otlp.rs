//! Traces and metrics over OTLP, as a collector receives them.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::{HistogramDataPoint, Metric, metric, number_data_point};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use parking_lot::Mutex;
use prost::Message;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use support::{LONG, Serving, stopwatch};

/// What a collector has received.
#[derive(Default)]
struct Received {
    spans: Vec<Span>,
    metrics: Option<ExportMetricsServiceRequest>,
    resources: Vec<Resource>,
    authorizations: Vec<String>,
}

/// A collector that takes OTLP over HTTP. Its threads end with the test's process.
#[derive(Clone)]
struct Collector {
    received: Arc<Mutex<Received>>,
    endpoint: String,
}

impl Collector {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        Self { received: Arc::default(), endpoint }.taking(listener, Self::serve)
    }

    /// One that speaks TLS with this certificate and key.
    fn start_tls(cert: &Path, key: &Path) -> Self {
        let chain = CertificateDer::pem_file_iter(cert).and_then(Iterator::collect).expect("certificates");
        let key = PrivateKeyDer::from_pem_file(key).expect("a key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("they go together");
        let tls = Arc::new(tls);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let endpoint = format!("https://{}", listener.local_addr().expect("an address"));
        Self { received: Arc::default(), endpoint }.taking(listener, move |collector, stream| {
            let connection = rustls::ServerConnection::new(tls.clone()).expect("a connection");
            collector.serve(rustls::StreamOwned::new(connection, stream));
        })
    }

    fn taking(
        self,
        listener: TcpListener,
        serve: impl Fn(&Self, TcpStream) + Clone + Send + 'static,
    ) -> Self {
        let taking = self.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (taking, serve) = (taking.clone(), serve.clone());
                std::thread::spawn(move || serve(&taking, stream));
            }
        });
        self
    }

    fn serve(&self, stream: impl Read + Write) {
        let mut reader = BufReader::new(stream);
        loop {
            let (mut request, mut length) = (String::new(), 0);
            if reader.read_line(&mut request).unwrap_or(0) == 0 {
                return;
            }
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).expect("a header");
                let Some((name, value)) = line.trim().split_once(':') else { break };
                match name.to_ascii_lowercase().as_str() {
                    "content-length" => length = value.trim().parse().expect("a length"),
                    "content-type" => assert_eq!(value.trim(), "application/x-protobuf"),
                    "authorization" => {
                        self.received.lock().authorizations.push(value.trim().to_owned());
                    }
                    _ => {}
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).expect("a body");
            self.take(request.split(' ').nth(1).expect("a path"), &body);
            reader
                .get_mut()
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                .expect("an open socket");
        }
    }

    fn take(&self, path: &str, body: &[u8]) {
        let mut received = self.received.lock();
        match path {
            "/v1/traces" => {
                for of in ExportTraceServiceRequest::decode(body).expect("protobuf").resource_spans {
                    received.resources.extend(of.resource);
                    received.spans.extend(of.scope_spans.into_iter().flat_map(|scope| scope.spans));
                }
            }
            "/v1/metrics" => {
                let metrics = ExportMetricsServiceRequest::decode(body).expect("protobuf");
                let resources = metrics.resource_metrics.iter().filter_map(|of| of.resource.clone());
                received.resources.extend(resources);
                received.metrics = Some(metrics);
            }
            other => panic!("nothing is sent to {other}"),
        }
    }

    /// The spans of a trace once some of these names are among them.
    fn trace(&self, id: &str, names: &[&str]) -> Vec<Span> {
        let began = stopwatch();
        loop {
            let found = self.spans(id);
            if names.iter().all(|name| named(&found, name).is_some()) {
                return found;
            }
            assert!(began.elapsed() < LONG, "of trace {id} came only {found:#?}");
            std::thread::yield_now();
        }
    }

    /// The spans of a trace that have come.
    fn spans(&self, id: &str) -> Vec<Span> {
        let received = self.received.lock();
        received.spans.iter().filter(|span| hex(&span.trace_id) == id).cloned().collect()
    }

    /// The metrics that came last, by name.
    fn latest(&self) -> BTreeMap<String, Metric> {
        let received = self.received.lock();
        let all = received.metrics.iter().flat_map(|message| &message.resource_metrics);
        let metrics = all.flat_map(|of| &of.scope_metrics).flat_map(|scope| &scope.metrics);
        metrics.map(|metric| (metric.name.clone(), metric.clone())).collect()
    }

    /// The latest histogram of a cache type.
    fn histogram(&self, name: &str, cache_type: &str) -> Option<HistogramDataPoint> {
        match self.latest().remove(name)?.data? {
            metric::Data::Histogram(histogram) => histogram
                .data_points
                .into_iter()
                .find(|point| text(&point.attributes, "cache_type") == Some(cache_type)),
            other => panic!("{name} is {other:?}"),
        }
    }

    /// The latest value of a counter or gauge of whole numbers of a cache type.
    fn metric(&self, name: &str, cache_type: &str) -> Option<u64> {
        let received = self.received.lock();
        let all = received.metrics.as_ref()?.resource_metrics.iter();
        let metrics = all.flat_map(|of| &of.scope_metrics).flat_map(|scope| &scope.metrics);
        let points = match metrics.into_iter().find(|metric| metric.name == name)?.data.as_ref()? {
            metric::Data::Sum(sum) => &sum.data_points,
            metric::Data::Gauge(gauge) => &gauge.data_points,
            other => panic!("{name} is {other:?}"),
        };
        let point = points.iter().find(|point| text(&point.attributes, "cache_type") == Some(cache_type))?;
        match point.value? {
            number_data_point::Value::AsInt(value) => u64::try_from(value).ok(),
            number_data_point::Value::AsDouble(value) => Some(value as u64),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn text<'a>(attributes: &'a [KeyValue], name: &str) -> Option<&'a str> {
    let found = attributes.iter().find(|attribute| attribute.key == name)?;
    match found.value.as_ref()? {
        AnyValue { value: Some(any_value::Value::StringValue(text)), .. } => Some(text),
        _ => None,
    }
}

fn number(attributes: &[KeyValue], name: &str) -> Option<i64> {
    let found = attributes.iter().find(|attribute| attribute.key == name)?;
    match found.value.as_ref()? {
        AnyValue { value: Some(any_value::Value::IntValue(number)), .. } => Some(*number),
        _ => None,
    }
}

fn named<'a>(spans: &'a [Span], name: &str) -> Option<&'a Span> {
    spans.iter().find(|span| span.name == name)
}

/// A trace of another service, as `traceparent` tells it: the header and the id of the trace.
fn parent(number: u32, sampled: bool) -> (String, String) {
    let id = format!("{number:032x}");
    (format!("00-{id}-00f067aa0ba902b7-0{}", u8::from(sampled)), id)
}

fn start(endpoint: &str) -> Serving {
    start_with(endpoint, &[])
}

fn start_with(endpoint: &str, more: &[(&str, &str)]) -> Serving {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(
        file.path(),
        "[telemetry]\notlp_interval = \"200ms\"\ntrace_sample_ratio = 0\n[http]\nevent_streams_max = 1\n",
    )
    .expect("writable");
    let arguments = ["--listen", "127.0.0.1:0", "--config", file.path().to_str().expect("UTF-8")];
    let env = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20secret"),
        ("EDGE_NODE_ID", "traced"),
        ("EDGE_NODE_REGION", "eu-1"),
    ];
    Serving::start_with(&arguments, &[&env, more].concat())
}

#[test]
fn a_collector_receives_traces_below_their_parents_and_the_figures_of_the_statistics() {
    let collector = Collector::start();
    let node = start(&collector.endpoint);
    let ask = |method: &str, path: &str, number: u32, sampled: bool, body: Option<&[u8]>| {
        let (header, id) = parent(number, sampled);
        (node.client.ask(method, path, &[("traceparent", &header)], body).status, id)
    };
    let http = |spans: &[Span], name: &str| {
        let span = named(spans, name).unwrap_or_else(|| panic!("no {name} in {spans:#?}"));
        assert_eq!(hex(&span.parent_span_id), "00f067aa0ba902b7", "below what the header names");
        span.span_id.clone()
    };

    let (status, put) = ask("PUT", "/cache/session/s", 1, true, Some(b"1"));
    assert_eq!(status, 200);
    let route = "PUT /cache/{cache_type}/{*resource}";
    let spans = collector.trace(&put, &[route, "cache.put"]);
    let request = http(&spans, route);
    assert_eq!(named(&spans, "cache.put").expect("a write").parent_span_id, request);

    // A hit of L1 is a request and nothing else; a miss asks L2.
    node.client
        .until("/cache/session/s", "an answer of L1", |answer| answer.header("x-cache-tier") == Some("l1"));
    let route = "GET /cache/{cache_type}/{*resource}";
    let (status, hit) = ask("GET", "/cache/session/s", 2, true, None);
    assert_eq!(status, 200);
    let (status, miss) = ask("GET", "/cache/session/other", 3, true, None);
    assert_eq!(status, 404);
    let spans = collector.trace(&miss, &[route, "cache.read"]);
    let request = http(&spans, route);
    let read = named(&spans, "cache.read").expect("a read below L1");
    assert_eq!(read.parent_span_id, request);
    assert_eq!(text(&read.attributes, "cache.namespace"), Some("session"));
    let spans = collector.trace(&hit, &[route]);
    http(&spans, route);
    assert_eq!(spans.len(), 1, "{spans:#?}");

    let (status, removed) = ask("DELETE", "/cache/session/s", 4, true, None);
    assert_eq!(status, 200);
    let delete = "DELETE /cache/{cache_type}/{*resource}";
    let spans = collector.trace(&removed, &[delete, "cache.invalidate"]);
    let request = http(&spans, delete);
    assert_eq!(named(&spans, "cache.invalidate").expect("an invalidation").parent_span_id, request);

    // A load: the market's listing comes from the ledger.
    let (status, load) = ask("GET", "/market/search", 5, true, None);
    assert_eq!(status, 200);
    let spans = collector.trace(&load, &["GET /market/search", "cache.read", "cache.load"]);
    let above = &named(&spans, "cache.load").expect("a load").parent_span_id;
    let above = spans.iter().find(|span| span.span_id == *above);
    assert_eq!(above.map(|span| span.name.as_str()), Some("cache.read"), "{spans:#?}");

    // What the other service does not follow is not told, nor, at a ratio of 0, what begins here.
    let (_, unsampled) = ask("GET", "/cache/session/s", 6, false, None);
    assert_eq!(node.client.get("/cache/session/s").status, 404);
    let (_, after) = ask("GET", "/cache/session/s", 7, true, None);
    collector.trace(&after, &[route]);
    assert!(collector.spans(&unsampled).is_empty());

    let stats = node.client.get("/cache/stats").body;
    let session = &stats["namespaces"]["session"];
    for (name, field) in [
        ("edgecache_reads", "reads"),
        ("edgecache_writes", "writes"),
        ("edgecache_invalidations", "invalidations"),
        ("edgecache_l1_cache_size", "l1_entries"),
    ] {
        let told = session[field].as_u64();
        assert!(told.is_some(), "{session}");
        let began = stopwatch();
        while collector.metric(name, "session") != told {
            let last = collector.metric(name, "session");
            assert!(began.elapsed() < LONG, "{name} is {last:?} and not {told:?}");
            std::thread::yield_now();
        }
    }
    {
        let received = collector.received.lock();
        for resource in &received.resources {
            let of = |name| text(&resource.attributes, name);
            assert_eq!(
                (of("service.name"), of("service.instance.id"), of("cloud.region")),
                (Some("edgecache"), Some("traced"), Some("eu-1"))
            );
        }
        assert!(received.authorizations.iter().all(|shown| shown == "Bearer secret"));
        assert!(!received.authorizations.is_empty());
        let own = received.spans.iter().filter(|span| span.parent_span_id.is_empty()).count();
        assert_eq!(own, 0, "traces that begin here are not told at a ratio of 0");
    }

    // A request says what it was and what came of it; those of who asks for health or figures are none.
    for path in ["/health", "/health/ready", "/metrics"] {
        let (header, id) = parent(9, true);
        node.client.ask_text("GET", path, &[("traceparent", &header)], None);
        assert!(collector.spans(&id).is_empty(), "{path}");
    }
    let first = node.client.stream("/events", &[]).expect("there is room");
    let (header, refused) = parent(10, true);
    assert!(node.client.stream("/events", &[("traceparent", &header)]).is_err(), "there is room for one");
    drop(first);
    let spans = [collector.trace(&miss, &[route]), collector.trace(&refused, &["GET /events"])].concat();
    let told: Vec<_> = ["GET /cache/{cache_type}/{*resource}", "GET /events"]
        .iter()
        .map(|name| {
            let span = named(&spans, name).expect("it came");
            assert_eq!(span.kind(), SpanKind::Server, "{span:?}");
            let of = |name| text(&span.attributes, name);
            let failed = span.status.as_ref().is_some_and(|status| status.code() == StatusCode::Error);
            let status = number(&span.attributes, "http.response.status_code");
            (of("http.request.method"), of("http.route"), of("url.path"), status, failed)
        })
        .collect();
    let get = Some("GET");
    let cached =
        (get, Some("/cache/{cache_type}/{*resource}"), Some("/cache/session/other"), Some(404), false);
    assert_eq!(told, [cached, (get, Some("/events"), Some("/events"), Some(503), true)]);
    assert!(collector.spans(&parent(9, true).1).is_empty(), "probes came before, and are told of no more");

    // What is on its way when the node stops arrives.
    let (status, last) = ask("PUT", "/cache/session/last", 8, true, Some(b"1"));
    assert_eq!(status, 200);
    let (status, log) = node.terminate();
    assert!(status.success(), "{log}");
    let last = collector.spans(&last);
    assert_eq!(last.len(), 2, "{last:#?}");
    assert!(!log.contains("telemetry is dropped"), "{log}");
}

/// The families of a text for Prometheus, with the kind of each.
fn families(text: &str) -> BTreeMap<&str, &str> {
    text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect()
}

#[test]
fn a_collector_is_told_what_prometheus_is_told_histograms_too() {
    let collector = Collector::start();
    let node = start(&collector.endpoint);
    for number in 0..20 {
        assert_eq!(node.client.put(&format!("/cache/session/{number}"), &number.into()).status, 200);
    }
    let writes = || collector.histogram("edgecache_write_duration_seconds", "session");
    let began = stopwatch();
    while writes().is_none_or(|writes| writes.count != 20) {
        assert!(began.elapsed() < LONG, "{:?}", writes());
        std::thread::yield_now();
    }
    let told = writes().expect("it came");
    assert_eq!(told.bucket_counts.iter().sum::<u64>(), 20, "{told:?}");
    assert_eq!(told.bucket_counts.len(), told.explicit_bounds.len() + 1, "{told:?}");
    assert!(told.explicit_bounds.is_sorted() && told.sum.is_some_and(|sum| sum > 0.0), "{told:?}");
    assert!(0 < told.start_time_unix_nano && told.start_time_unix_nano < told.time_unix_nano, "{told:?}");
    // The same buckets as in the text, which counts each with those below it.
    let (_, text) = node.client.text("/metrics");
    let in_text: Vec<(f64, u64)> = text
        .lines()
        .filter_map(|line| line.strip_prefix("edgecache_write_duration_seconds_bucket{le=\""))
        .filter(|line| line.contains("\"session\""))
        .filter_map(|line| {
            Some((line.split('"').next()?.parse().ok()?, line.rsplit(' ').next()?.parse().ok()?))
        })
        .filter(|(bound, _): &(f64, u64)| bound.is_finite())
        .collect();
    let mut below = 0;
    let summed = told.bucket_counts.iter().map(|count| {
        below += count;
        below
    });
    assert_eq!(told.explicit_bounds.iter().copied().zip(summed).collect::<Vec<_>>(), in_text);

    // Nothing is in one of the two alone. What was told last may be older than the text.
    let began = stopwatch();
    loop {
        let (latest, (_, text)) = (collector.latest(), node.client.text("/metrics"));
        let kinds: BTreeMap<&str, &str> = latest
            .iter()
            .map(|(name, metric)| {
                let kind = match metric.data {
                    Some(metric::Data::Sum(_)) => "counter",
                    Some(metric::Data::Gauge(_)) => "gauge",
                    _ => "histogram",
                };
                (name.as_str(), kind)
            })
            .collect();
        let told = families(&text);
        if kinds == told {
            assert!(told.len() > 50, "{told:?}");
            break;
        }
        let of = |all: &BTreeMap<&str, &str>| all.keys().map(ToString::to_string).collect::<BTreeSet<_>>();
        let apart: Vec<_> = of(&kinds).symmetric_difference(&of(&told)).cloned().collect();
        assert!(began.elapsed() < LONG, "in one alone: {apart:?}; {kinds:?} and {told:?}");
        std::thread::yield_now();
    }
}

#[test]
fn over_https_a_collector_is_believed_that_the_machine_trusts_and_no_other() {
    let folder = tempfile::tempdir().expect("a folder");
    let [cert, key, ca] = cache_testkit::certificates(folder.path());
    let collector = Collector::start_tls(&cert, &key);
    let node = start_with(&collector.endpoint, &[("SSL_CERT_FILE", ca.to_str().expect("UTF-8"))]);
    let (header, id) = parent(90, true);
    let headers = [("traceparent", header.as_str())];
    assert_eq!(node.client.ask("PUT", "/cache/session/s", &headers, Some(b"1")).status, 200);
    collector.trace(&id, &["cache.put"]);
    let began = stopwatch();
    while collector.metric("edgecache_writes", "session") != Some(1) {
        assert!(began.elapsed() < LONG, "{:?}", collector.metric("edgecache_writes", "session"));
        std::thread::yield_now();
    }
    assert!(collector.received.lock().authorizations.iter().all(|shown| shown == "Bearer secret"));
    let (status, log) = node.terminate();
    assert!(status.success() && !log.contains("telemetry is dropped"), "{log}");

    let stranger = tempfile::tempdir().expect("a folder");
    let [_, _, other] = cache_testkit::certificates(stranger.path());
    let unheard = Collector::start_tls(&cert, &key);
    let node = start_with(&unheard.endpoint, &[("SSL_CERT_FILE", other.to_str().expect("UTF-8"))]);
    node.until_log("telemetry is dropped");
    assert!(unheard.received.lock().authorizations.is_empty(), "the header is a secret");
    drop(node);
}

#[test]
fn a_collector_that_hangs_or_is_away_costs_a_warning_and_a_few_seconds_at_the_stop() {
    // Takes connections and never answers; and a port where nobody listens.
    let hangs = TcpListener::bind("127.0.0.1:0").expect("a port");
    let hanging = format!("http://{}", hangs.local_addr().expect("an address"));
    let away = {
        let gone = TcpListener::bind("127.0.0.1:0").expect("a port");
        format!("http://{}", gone.local_addr().expect("an address"))
    };
    for endpoint in [hanging, away] {
        let node = start(&endpoint);
        let began = stopwatch();
        for number in 10..60 {
            let (header, _) = parent(number, true);
            let headers = [("traceparent", header.as_str())];
            assert_eq!(node.client.ask("PUT", "/cache/session/s", &headers, Some(b"1")).status, 200);
        }
        let each = began.elapsed() / 50;
        assert!(each.as_millis() < 100, "{endpoint}: {each:?} a request");
        node.client.until("/node/history?series=writes_per_s", "samples go on", |answer| {
            answer.body["series"]["writes_per_s"].as_array().is_some_and(|points| points.len() >= 3)
        });
        let began = stopwatch();
        let (status, log) = node.terminate();
        let took = began.elapsed();
        assert!(status.success(), "{log}");
        // Five seconds for spans and metrics, and what a busy machine needs.
        assert!(took.as_secs_f64() < 7.0, "{endpoint}: {took:?}");
        let warnings = log.matches("telemetry is dropped").count();
        assert!((1..=2).contains(&warnings), "one each for spans and metrics: {log}");
    }
}
