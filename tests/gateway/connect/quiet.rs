//! Nobody hears of a token, a code, a state or an account: no log, number, error, URL or referrer.

use serde_json::json;

use super::Scene;
use crate::cloud::{Account, Answer as Decision, Kind, Node, Part, Reply, Tree, Trick, forms};
use crate::harness::Marker;

#[test]
fn nothing_of_a_connection_is_said_anywhere() {
    for format in ["text", "json"] {
        let scene = Scene::with(|setup| setup.set("log", "format", &format!("\"{format}\"")));
        let marker = |what: &str| Marker::new(&format!("{what}{format}")).letters(24);
        let (name, email, file, subject) =
            (marker("name"), marker("email"), marker("file"), marker("subject"));
        let (mut planted, mut said, mut urls) = (Vec::new(), String::new(), String::new());
        planted.extend([name.clone(), email.clone(), file.clone(), subject.clone()]);
        for kind in Kind::BOTH {
            let cloud = scene.cloud(kind);
            let account = Account {
                id: marker(&format!("id{}", kind.name())),
                name: name.clone(),
                email: format!("{email}@mail.example"),
                ..cloud.account()
            };
            planted.push(account.id.clone());
            cloud.log_in(account);
            cloud.plant(Tree::of(vec![Node::file(kind, "file1", "", &file)]));
            let more = json!({"offline": true, "subject": subject});
            let begun = scene.begin(kind, &more);
            planted.push(begun.url.rsplit('/').next().unwrap().to_owned());
            let mut person = scene.person();
            let sent = scene.agree(&mut person, &begun.url);
            planted.push(super::query(&sent)["state"].clone());
            planted.extend(person.cookies.values().cloned());
            let back = cloud.decide(&sent, &Decision::allow());
            let clean = person.open(&back).expect(303).header("location").unwrap().to_owned();
            urls += &clean;
            let page = person.open(&clean).expect(200).body_text();
            planted.extend(forms(&page)[0].fields.iter().map(|(_, value)| value.clone()));
            said += &String::from_utf8_lossy(&person.open(&back).expect(400).body);
            let consented = super::Consented { id: begun.id, person, page, place: clean };
            let code = consented.code();
            planted.push(code.clone());
            let wrong = json!({"code": code, "subject": file});
            said += &scene.confirm(&consented.id, &wrong).expect(404).body_text();
            let right = json!({"code": code, "subject": subject});
            scene.confirm(&consented.id, &right).expect(200);
            scene.items(&consented.id, &format!("?subject={subject}")).expect(200);
            cloud.expire();
            scene.items(&consented.id, &format!("?subject={subject}")).expect(200);
            let noise = Reply::text(500, "text/plain", &format!("{name} {email} {file}"));
            cloud.order(Part::List, 4, Trick::Says(noise.clone()));
            let failed = scene.items(&consented.id, &format!("?subject={subject}"));
            said += &failed.expect(502).body_text();
            cloud.order(Part::Revoke, 1, Trick::Says(noise));
            said += &scene.delete(&consented.id).expect(200).body_text();
            said += &scene.show(&consented.id).to_string();
            cloud.order(Part::Token, 1, Trick::Says(Reply::text(400, "application/json", &name)));
            let failed = scene.consent(kind, &json!({}), &Decision::allow());
            said += &scene.show(&failed.id).to_string();
        }
        for kind in Kind::BOTH {
            let cloud = scene.cloud(kind);
            planted.extend(cloud.secrets());
            planted.push(cloud.client_secret().to_owned());
            for request in cloud.requests() {
                assert_eq!(request.header("referer"), None, "{}", request.path);
                urls += &format!("{} {:?}", request.path, request.query);
            }
        }
        let numbers = scene.gateway.operator().get("/metrics").expect(200).body_text();
        let status = scene.gateway.client_of("ops").get("/v1/status").expect(200).body_text();
        let all = said + &numbers + &status + &scene.gateway.stdout() + &scene.gateway.stderr();
        assert!(all.contains("/v1/connections/{id}/confirm"), "the log was looked at");
        for secret in &planted {
            assert!(secret.len() >= 16, "{secret} is too short to look for");
            assert!(!all.contains(&secret[..16]), "{format}: {secret} was said");
            // The service's own page is asked by the browser; the gateway's calls carry none.
            assert!(!urls.contains(secret.as_str()) || is_address(secret), "{secret} in a URL");
        }
    }
}

/// A page's own address is a URL, of course.
fn is_address(secret: &str) -> bool {
    secret.len() == 52 && secret.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}
