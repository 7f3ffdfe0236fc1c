//! The tables, step by step.
//!
//! Amounts are micro-units of the currency in `head`, times milliseconds since the Unix epoch in UTC. `head` is one
//! row: the number of the last commit and its time. Every transaction that changes something locks it first, so
//! commits become visible in the order of their numbers.

use cache_sql::{Kind, Migration, Outbox};

const TABLES: &str = "
CREATE TABLE head (
    id BIGINT PRIMARY KEY, version BIGINT NOT NULL, at BIGINT NOT NULL, currency {text} NOT NULL
);
INSERT INTO head VALUES (1, 0, 0, 'USD');
CREATE TABLE providers (
    provider_id {text} PRIMARY KEY, state BIGINT NOT NULL, live BIGINT NOT NULL,
    version BIGINT NOT NULL, at BIGINT NOT NULL, gpus_version BIGINT NOT NULL, gpus_at BIGINT NOT NULL
);
CREATE TABLE offers (
    provider {text} NOT NULL, gpu_type {text} NOT NULL, region {text} NOT NULL,
    min_price BIGINT NOT NULL, avg_price BIGINT NOT NULL,
    wanted BIGINT NOT NULL, live BIGINT NOT NULL, made BIGINT NOT NULL,
    PRIMARY KEY (provider, gpu_type)
);
CREATE TABLE gpus (
    gpu_id {text} PRIMARY KEY, provider {text} NOT NULL, gpu_type {text} NOT NULL, region {text} NOT NULL,
    memory_gb BIGINT NOT NULL, cuda_cores BIGINT NOT NULL, performance_score BIGINT NOT NULL,
    registered BIGINT NOT NULL, base_price BIGINT NOT NULL, own_status BIGINT NOT NULL, withdrawn BIGINT NOT NULL,
    begun BIGINT NOT NULL, version BIGINT NOT NULL, at BIGINT NOT NULL
);
CREATE INDEX gpus_by_provider ON gpus (provider, gpu_type);
CREATE INDEX gpus_by_market ON gpus (gpu_type, region);
CREATE TABLE bookings (
    booking_id {text} PRIMARY KEY, gpu_id {text} NOT NULL REFERENCES gpus (gpu_id), user_id {text} NOT NULL,
    start_time BIGINT NOT NULL, end_time BIGINT NOT NULL, status BIGINT NOT NULL, total_cost BIGINT NOT NULL,
    created_at BIGINT NOT NULL, gpu_type {text} NOT NULL, region {text} NOT NULL, begun BIGINT NOT NULL,
    created TEXT NOT NULL, cancelled TEXT NOT NULL, version BIGINT NOT NULL, at BIGINT NOT NULL,
    CHECK (start_time < end_time), CHECK (total_cost >= 0)
);
CREATE INDEX bookings_by_gpu ON bookings (gpu_id, status, start_time);
CREATE INDEX bookings_to_begin ON bookings (status, begun, start_time);
CREATE INDEX bookings_to_end ON bookings (status, end_time);
CREATE INDEX bookings_by_age ON bookings (created_at);
CREATE INDEX bookings_by_market ON bookings (gpu_type, region, created_at);
CREATE TABLE markets (
    gpu_type {text} NOT NULL, region {text} NOT NULL,
    available BIGINT NOT NULL, busy BIGINT NOT NULL, offline BIGINT NOT NULL, maintenance BIGINT NOT NULL,
    base_sum BIGINT NOT NULL, factor BIGINT NOT NULL, points BIGINT NOT NULL,
    availability_version BIGINT NOT NULL, availability_at BIGINT NOT NULL,
    price_version BIGINT NOT NULL, price_at BIGINT NOT NULL, book_version BIGINT NOT NULL, book_at BIGINT NOT NULL,
    history_version BIGINT NOT NULL, history_at BIGINT NOT NULL, gpus_version BIGINT NOT NULL, gpus_at BIGINT NOT NULL,
    PRIMARY KEY (gpu_type, region)
);
CREATE TABLE price_levels (
    gpu_type {text} NOT NULL, region {text} NOT NULL, base_price BIGINT NOT NULL, on_offer BIGINT NOT NULL,
    PRIMARY KEY (gpu_type, region, base_price)
);
CREATE TABLE history (
    gpu_type {text} NOT NULL, region {text} NOT NULL, number BIGINT NOT NULL, at BIGINT NOT NULL,
    price BIGINT NOT NULL, available BIGINT NOT NULL, total BIGINT NOT NULL,
    PRIMARY KEY (gpu_type, region, number)
);
CREATE TABLE figures (
    gpu_type {text} NOT NULL, region {text} NOT NULL, bookings BIGINT NOT NULL, volume BIGINT NOT NULL,
    version BIGINT NOT NULL, at BIGINT NOT NULL, listed_version BIGINT NOT NULL, listed_at BIGINT NOT NULL,
    PRIMARY KEY (gpu_type, region)
);
";

/// A second guard against double booking, of the database itself, behind the rules.
const GUARD_OF_POSTGRES: &str = "
DO $$ BEGIN
    IF EXISTS (SELECT 1 FROM pg_available_extensions WHERE name = 'btree_gist') THEN
        CREATE EXTENSION IF NOT EXISTS btree_gist;
        ALTER TABLE bookings ADD CONSTRAINT bookings_do_not_overlap
            EXCLUDE USING gist (gpu_id WITH =, int8range(start_time, end_time) WITH &&) WHERE (status = 0);
    END IF;
EXCEPTION WHEN insufficient_privilege THEN
    RAISE NOTICE 'without the extension btree_gist the database does not check for double bookings by itself';
END $$;
";

const GUARD_OF_SQLITE: &str = "
CREATE TRIGGER bookings_do_not_overlap BEFORE INSERT ON bookings WHEN NEW.status = 0
BEGIN
    SELECT RAISE(ABORT, 'bookings_do_not_overlap') WHERE EXISTS (
        SELECT 1 FROM bookings b WHERE b.gpu_id = NEW.gpu_id AND b.status = 0 AND b.booking_id <> NEW.booking_id
        AND b.start_time < NEW.end_time AND b.end_time > NEW.start_time
    );
END;
";

/// The schema, step by step. A step that was released is never edited.
pub(crate) fn all(kind: Kind) -> Vec<Migration> {
    let step = |version, description, statements: &str| Migration {
        version,
        description,
        statements: statements.to_owned(),
    };
    vec![
        step(1, "tables", TABLES),
        step(2, "outbox", Outbox::SCHEMA),
        step(3, "no double booking", kind.either(GUARD_OF_SQLITE, GUARD_OF_POSTGRES)),
    ]
}
