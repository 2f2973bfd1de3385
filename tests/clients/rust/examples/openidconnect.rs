use openidconnect::{RedirectUrl, RegistrationUrl, core::CoreClientRegistrationRequest, reqwest};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let gateway = std::env::args().nth(1).unwrap_or("http://127.0.0.1:8080/loop".to_owned());
    let http = reqwest::ClientBuilder::new().redirect(reqwest::redirect::Policy::none()).build()?;
    let redirect_uri = RedirectUrl::new("https://portal.example/cb".to_owned())?;
    let registered = CoreClientRegistrationRequest::new(vec![redirect_uri], Default::default())
        .register_async(&RegistrationUrl::new(format!("{gateway}/register"))?, &http)
        .await?;
    println!("{}", serde_json::to_string(&registered)?);
    Ok(())
}
