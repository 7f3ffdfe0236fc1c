//! What is judged, without anybody to ask: times, clocks and certificates that no test can wait for.

use super::*;

fn well() -> Facts {
    Facts {
        servers: Some(Ok(Vec::new())),
        login: Login::User,
        fenced: None,
        events: Events::Heard,
        live: true,
        clock_offset_ms: Some(3),
        clock_offset_now_ms: Some(2),
        outbox: 0,
        bus: BusConfig::default(),
        operation_timeout: Some(Duration::from_millis(50)),
        audit: Some((100, 0, None)),
        loopback: true,
        token: false,
        certificate: None,
        wall_ms: 1_800_000_000_000,
    }
}

fn verdict(facts: &Facts, check: &str) -> (Verdict, String) {
    let found = judge(facts).into_iter().find(|finding| finding.check == check).expect("the check is made");
    assert_eq!(found.cure.is_none(), found.verdict == Verdict::Ok, "{found:?}");
    (found.verdict, found.found)
}

#[test]
fn a_node_that_is_well_has_no_finding() {
    assert!(judge(&well()).iter().all(|finding| finding.verdict == Verdict::Ok), "{:?}", judge(&well()));
}

#[test]
fn clocks_that_are_apart_or_jump_are_found() {
    let apart = Facts { clock_offset_ms: Some(-4_000), clock_offset_now_ms: Some(-4_001), ..well() };
    assert_eq!(verdict(&apart, "clock").0, Verdict::Warning);
    let jumped = Facts { clock_offset_ms: Some(3), clock_offset_now_ms: Some(900), ..well() };
    assert!(verdict(&jumped, "clock").1.contains("jumped"));
    assert_eq!(verdict(&Facts { clock_offset_ms: None, ..well() }, "clock").0, Verdict::Unknown);
}

#[test]
fn a_certificate_that_ends_soon_is_found() {
    let with = |days: i64, refused: Option<&str>| {
        let ends = Ok(1_800_000_000_u64.saturating_add_signed(days * 86_400));
        let certificate = Certificate { ends, refused: refused.map(str::to_owned) };
        Facts { certificate: Some(certificate), ..well() }
    };
    let of = |days| verdict(&with(days, None), "certificate").0;
    assert_eq!(
        [of(90), of(29), of(6), of(-1)],
        [Verdict::Ok, Verdict::Warning, Verdict::Problem, Verdict::Problem]
    );
    let refused = |days| verdict(&with(days, Some("no key")), "certificate");
    assert_eq!([refused(90).0, refused(6).0], [Verdict::Warning, Verdict::Problem]);
    assert!(refused(90).1.contains("no key"));
    let certificate = Some(Certificate { ends: Err("no PEM".into()), refused: None });
    let unread = Facts { certificate, ..well() };
    assert_eq!(verdict(&unread, "certificate").0, Verdict::Unknown);
}

#[test]
fn a_bound_that_one_lost_sync_breaks_is_found() {
    let bus = BusConfig { staleness_bound: Duration::from_millis(1_799), ..BusConfig::default() };
    assert_eq!(verdict(&Facts { bus, ..well() }, "staleness bound").0, Verdict::Problem);
    let bus = BusConfig { staleness_bound: Duration::from_millis(1_800), ..BusConfig::default() };
    assert_eq!(verdict(&Facts { bus, ..well() }, "staleness bound").0, Verdict::Ok);
}

#[test]
fn violations_an_open_door_and_what_waits_are_found() {
    let facts = Facts {
        audit: Some((100, 2, Some("k (changed behind the cache)".into()))),
        loopback: false,
        outbox: 7,
        ..well()
    };
    assert_eq!(verdict(&facts, "audit").0, Verdict::Problem);
    assert!(verdict(&facts, "audit").1.contains("changed behind"));
    assert_eq!(verdict(&facts, "access").0, Verdict::Problem);
    assert_eq!(verdict(&Facts { token: true, ..facts }, "access").0, Verdict::Ok);
    assert_eq!(verdict(&Facts { outbox: 7, ..well() }, "outbox").0, Verdict::Warning);
    assert_eq!(verdict(&Facts { outbox: 5_001, ..well() }, "outbox").0, Verdict::Problem);
}

fn server(name: &str, fields: &[(&str, &str)]) -> ServerFacts {
    let mut server = ServerFacts::default();
    server.name = name.to_owned();
    server.info = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    server
}

#[test]
fn versions_that_are_too_old_and_connections_that_run_out_are_found() {
    let of = |fields: &[(&str, &str)]| Facts { servers: Some(Ok(vec![server("a", fields)])), ..well() };
    assert_eq!(verdict(&of(&[("redis_version", "6.2.14")]), "redis version").0, Verdict::Problem);
    assert_eq!(verdict(&of(&[("redis_version", "7.0.15")]), "redis version").0, Verdict::Ok);
    // A Valkey says that it is Redis 7.2.4, whatever its own version is.
    let valkey = [("redis_version", "7.2.4"), ("valkey_version", "8.1.0")];
    assert_eq!(verdict(&of(&valkey), "redis version").1, "Valkey 8.1.0");
    let clients = |now: &str| of(&[("connected_clients", now), ("maxclients", "100")]);
    let verdicts = ["70", "71", "91"].map(|now| verdict(&clients(now), "maxclients").0);
    assert_eq!(verdicts, [Verdict::Ok, Verdict::Warning, Verdict::Problem]);
}

#[test]
fn a_check_of_several_masters_is_one_finding_that_names_the_bad_ones() {
    let policy = |policy: &str| {
        [("maxmemory", "100"), ("used_memory", "10"), ("maxmemory_policy", policy)]
            .map(|(a, b)| (a.to_owned(), b.to_owned()))
    };
    let server = |name: &str, of: &str| {
        let mut server = server(name, &[]);
        server.info = policy(of).into();
        server
    };
    let three = vec![server("a", "volatile-ttl"), server("b", "allkeys-lru"), server("c", "volatile-ttl")];
    let (worst, found) = verdict(&Facts { servers: Some(Ok(three)), ..well() }, "maxmemory-policy");
    assert_eq!(worst, Verdict::Problem);
    assert!(found.starts_with("b: allkeys-lru"), "{found}");
    let two = vec![server("a", "volatile-ttl"), server("b", "volatile-ttl")];
    assert!(
        verdict(&Facts { servers: Some(Ok(two)), ..well() }, "maxmemory-policy")
            .1
            .ends_with("(all 2 masters)")
    );
}
