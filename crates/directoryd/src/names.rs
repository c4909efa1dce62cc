use mail_types::{AddressError, Domain, EmailAddress};

/// Reads an address; a bare local part gets the server's own domain.
pub(crate) fn qualified(text: &str, domain: &Domain) -> Result<EmailAddress, AddressError> {
    match text.parse() {
        Err(AddressError::NoAt) => Ok(EmailAddress::new(text.parse()?, domain.clone())),
        parsed => parsed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bare_names_get_the_domain() {
        let domain: Domain = "aula.test".parse().unwrap();
        let of = |text| qualified(text, &domain).map(|address| address.to_string());
        assert_eq!(of("ana").unwrap(), "ana@aula.test");
        assert_eq!(of("ana@b.test").unwrap(), "ana@b.test");
        assert!(of("").is_err());
        assert!(of("a b").is_err());
    }
}
