//! Judges a description of an HTTP interface, and what is answered, by programs that know nothing of how either is made.

use boon::{Compiler, SchemaIndex, Schemas};
use serde_json::Value;

/// Where the description stands for references; it is never fetched.
const DESCRIPTION: &str = "test:/description";

/// The schema of OpenAPI 3.1 as the OpenAPI Initiative publishes it.
const OFFICIAL: &str = "test:/official";

/// What is wrong with a document, judged by the schema of OpenAPI 3.1.
pub(crate) struct OpenApi {
    schemas: Schemas,
    official: SchemaIndex,
}

impl OpenApi {
    pub(crate) fn new() -> Self {
        let mut official: Value = serde_json::from_str(include_str!("schema-3.1.json")).expect("JSON");
        // Its own name would be followed to a network.
        official.as_object_mut().expect("an object").remove("$id");
        let mut compiler = Compiler::new();
        compiler.add_resource(OFFICIAL, official).expect("an address");
        let mut schemas = Schemas::new();
        let official = compiler.compile(OFFICIAL, &mut schemas).unwrap_or_else(|error| panic!("{error:#}"));
        Self { schemas, official }
    }

    /// `None` = nothing.
    pub(crate) fn wrong(&self, document: &Value) -> Option<String> {
        self.schemas.validate(document, self.official).err().map(|error| error.to_string())
    }
}

/// The schemas in a description.
pub(crate) struct Described {
    compiler: Compiler,
    schemas: Schemas,
}

impl Described {
    pub(crate) fn of(document: &Value) -> Self {
        let mut compiler = Compiler::new();
        compiler.add_resource(DESCRIPTION, document.clone()).expect("an address");
        Self { compiler, schemas: Schemas::new() }
    }

    /// What is wrong with the schema at a JSON pointer, judged by JSON Schema 2020-12; with those too that it refers to.
    pub(crate) fn wrong_schema(&mut self, pointer: &str) -> Option<String> {
        self.compile(pointer).err()
    }

    /// What is wrong with a value, judged by the schema at a JSON pointer.
    pub(crate) fn wrong_value(&mut self, pointer: &str, value: &Value) -> Option<String> {
        let schema = self.compile(pointer).unwrap_or_else(|error| panic!("{error}"));
        self.schemas.validate(value, schema).err().map(|error| error.to_string())
    }

    fn compile(&mut self, pointer: &str) -> Result<SchemaIndex, String> {
        // A fragment of an address holds no braces.
        let fragment = pointer.replace('{', "%7B").replace('}', "%7D");
        self.compiler
            .compile(&format!("{DESCRIPTION}#{fragment}"), &mut self.schemas)
            .map_err(|error| format!("{pointer}: {error:#}"))
    }
}
