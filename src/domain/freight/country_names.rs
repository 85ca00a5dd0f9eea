//! Countries by name and by the three letters of ISO 3166-1 alpha-3, so that a message can say which code is meant. Written by hand; the
//! standard's own list decides. It never makes a name count as a code.

/// One country a line, in alphabetical order of the codes: alpha-2, alpha-3, and what it is called in English, one name after another.
const COUNTRIES: &str = "\
AD AND Andorra
AE ARE United Arab Emirates/Emirates/UAE
AF AFG Afghanistan
AG ATG Antigua and Barbuda
AI AIA Anguilla
AL ALB Albania
AM ARM Armenia
AO AGO Angola
AQ ATA Antarctica
AR ARG Argentina
AS ASM American Samoa
AT AUT Austria
AU AUS Australia
AW ABW Aruba
AX ALA Åland Islands/Åland
AZ AZE Azerbaijan
BA BIH Bosnia and Herzegovina/Bosnia
BB BRB Barbados
BD BGD Bangladesh
BE BEL Belgium
BF BFA Burkina Faso
BG BGR Bulgaria
BH BHR Bahrain
BI BDI Burundi
BJ BEN Benin
BL BLM Saint Barthélemy
BM BMU Bermuda
BN BRN Brunei/Brunei Darussalam
BO BOL Bolivia
BQ BES Bonaire, Sint Eustatius and Saba/Bonaire
BR BRA Brazil
BS BHS Bahamas
BT BTN Bhutan
BV BVT Bouvet Island
BW BWA Botswana
BY BLR Belarus
BZ BLZ Belize
CA CAN Canada
CC CCK Cocos (Keeling) Islands/Cocos Islands
CD COD Democratic Republic of the Congo/Congo-Kinshasa
CF CAF Central African Republic
CG COG Congo/Republic of the Congo/Congo-Brazzaville
CH CHE Switzerland
CI CIV Côte d'Ivoire/Ivory Coast
CK COK Cook Islands
CL CHL Chile
CM CMR Cameroon
CN CHN China/People's Republic of China
CO COL Colombia
CR CRI Costa Rica
CU CUB Cuba
CV CPV Cabo Verde/Cape Verde
CW CUW Curaçao
CX CXR Christmas Island
CY CYP Cyprus
CZ CZE Czechia/Czech Republic
DE DEU Germany
DJ DJI Djibouti
DK DNK Denmark
DM DMA Dominica
DO DOM Dominican Republic
DZ DZA Algeria
EC ECU Ecuador
EE EST Estonia
EG EGY Egypt
EH ESH Western Sahara
ER ERI Eritrea
ES ESP Spain
ET ETH Ethiopia
FI FIN Finland
FJ FJI Fiji
FK FLK Falkland Islands/Falkland Islands (Malvinas)
FM FSM Micronesia
FO FRO Faroe Islands
FR FRA France
GA GAB Gabon
GB GBR United Kingdom/UK/Great Britain/Britain/England
GD GRD Grenada
GE GEO Georgia
GF GUF French Guiana
GG GGY Guernsey
GH GHA Ghana
GI GIB Gibraltar
GL GRL Greenland
GM GMB Gambia
GN GIN Guinea
GP GLP Guadeloupe
GQ GNQ Equatorial Guinea
GR GRC Greece
GS SGS South Georgia and the South Sandwich Islands/South Georgia
GT GTM Guatemala
GU GUM Guam
GW GNB Guinea-Bissau
GY GUY Guyana
HK HKG Hong Kong
HM HMD Heard Island and McDonald Islands
HN HND Honduras
HR HRV Croatia
HT HTI Haiti
HU HUN Hungary
ID IDN Indonesia
IE IRL Ireland
IL ISR Israel
IM IMN Isle of Man
IN IND India
IO IOT British Indian Ocean Territory
IQ IRQ Iraq
IR IRN Iran
IS ISL Iceland
IT ITA Italy
JE JEY Jersey
JM JAM Jamaica
JO JOR Jordan
JP JPN Japan
KE KEN Kenya
KG KGZ Kyrgyzstan
KH KHM Cambodia
KI KIR Kiribati
KM COM Comoros
KN KNA Saint Kitts and Nevis
KP PRK North Korea/Democratic People's Republic of Korea
KR KOR South Korea/Republic of Korea/Korea
KW KWT Kuwait
KY CYM Cayman Islands
KZ KAZ Kazakhstan
LA LAO Laos/Lao People's Democratic Republic
LB LBN Lebanon
LC LCA Saint Lucia
LI LIE Liechtenstein
LK LKA Sri Lanka
LR LBR Liberia
LS LSO Lesotho
LT LTU Lithuania
LU LUX Luxembourg
LV LVA Latvia
LY LBY Libya
MA MAR Morocco
MC MCO Monaco
MD MDA Moldova
ME MNE Montenegro
MF MAF Saint Martin (French Part)/Saint Martin
MG MDG Madagascar
MH MHL Marshall Islands
MK MKD North Macedonia/Macedonia
ML MLI Mali
MM MMR Myanmar/Burma
MN MNG Mongolia
MO MAC Macao/Macau
MP MNP Northern Mariana Islands
MQ MTQ Martinique
MR MRT Mauritania
MS MSR Montserrat
MT MLT Malta
MU MUS Mauritius
MV MDV Maldives
MW MWI Malawi
MX MEX Mexico
MY MYS Malaysia
MZ MOZ Mozambique
NA NAM Namibia
NC NCL New Caledonia
NE NER Niger
NF NFK Norfolk Island
NG NGA Nigeria
NI NIC Nicaragua
NL NLD Netherlands/Holland
NO NOR Norway
NP NPL Nepal
NR NRU Nauru
NU NIU Niue
NZ NZL New Zealand
OM OMN Oman
PA PAN Panama
PE PER Peru
PF PYF French Polynesia
PG PNG Papua New Guinea
PH PHL Philippines
PK PAK Pakistan
PL POL Poland
PM SPM Saint Pierre and Miquelon
PN PCN Pitcairn
PR PRI Puerto Rico
PS PSE Palestine/State of Palestine
PT PRT Portugal
PW PLW Palau
PY PRY Paraguay
QA QAT Qatar
RE REU Réunion
RO ROU Romania
RS SRB Serbia
RU RUS Russia/Russian Federation
RW RWA Rwanda
SA SAU Saudi Arabia
SB SLB Solomon Islands
SC SYC Seychelles
SD SDN Sudan
SE SWE Sweden
SG SGP Singapore
SH SHN Saint Helena, Ascension and Tristan da Cunha/Saint Helena
SI SVN Slovenia
SJ SJM Svalbard and Jan Mayen
SK SVK Slovakia
SL SLE Sierra Leone
SM SMR San Marino
SN SEN Senegal
SO SOM Somalia
SR SUR Suriname
SS SSD South Sudan
ST STP Sao Tome and Principe
SV SLV El Salvador
SX SXM Sint Maarten (Dutch Part)/Sint Maarten
SY SYR Syria/Syrian Arab Republic
SZ SWZ Eswatini/Swaziland
TC TCA Turks and Caicos Islands
TD TCD Chad
TF ATF French Southern Territories
TG TGO Togo
TH THA Thailand
TJ TJK Tajikistan
TK TKL Tokelau
TL TLS Timor-Leste/East Timor
TM TKM Turkmenistan
TN TUN Tunisia
TO TON Tonga
TR TUR Türkiye/Turkey
TT TTO Trinidad and Tobago/Trinidad
TV TUV Tuvalu
TW TWN Taiwan
TZ TZA Tanzania
UA UKR Ukraine
UG UGA Uganda
UM UMI United States Minor Outlying Islands
US USA United States of America/United States/America
UY URY Uruguay
UZ UZB Uzbekistan
VA VAT Holy See/Vatican/Vatican City
VC VCT Saint Vincent and the Grenadines/Saint Vincent
VE VEN Venezuela
VG VGB British Virgin Islands/Virgin Islands (British)
VI VIR US Virgin Islands/Virgin Islands (US)
VN VNM Viet Nam/Vietnam
VU VUT Vanuatu
WF WLF Wallis and Futuna
WS WSM Samoa
YE YEM Yemen
YT MYT Mayotte
ZA ZAF South Africa
ZM ZMB Zambia
ZW ZWE Zimbabwe";

/// One country.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Country {
    /// Its code, alpha-2.
    pub code: &'static str,
    /// Its three letters, alpha-3.
    pub three_letters: &'static str,
    /// Its first name.
    pub name: &'static str,
    all_names: &'static str,
}

impl Country {
    /// All its names.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + use<> {
        self.all_names.split('/')
    }
}

/// Every country, in alphabetical order of the codes.
pub fn countries() -> impl Iterator<Item = Country> {
    COUNTRIES.lines().map(|line| {
        let (code, rest) = line.split_once(' ').expect("a line has three columns");
        let (three_letters, all_names) = rest.split_once(' ').expect("a line has three columns");
        let name = all_names.split('/').next().unwrap_or(all_names);
        Country { code, three_letters, name, all_names }
    })
}

/// The country that a text names, or means by its three letters; however it is written, an article left out.
#[must_use]
pub fn meant_by(text: &str) -> Option<Country> {
    let meant = folded(text);
    countries()
        .find(|country| folded(country.three_letters) == meant || country.names().any(|name| folded(name) == meant))
}

/// What to add to a refusal of a text that is no country's code, where it names one: `; PK is Pakistan`.
#[must_use]
pub fn hint(text: &str) -> String {
    meant_by(text).map(|country| format!("; {} is {}", country.code, country.name)).unwrap_or_default()
}

/// Its letters alone, in one case and without accents.
fn folded(text: &str) -> String {
    let letters = text.chars().flat_map(char::to_lowercase).map(|letter| match letter {
        'å' | 'á' | 'à' | 'â' | 'ã' | 'ä' => 'a',
        'ç' => 'c',
        'é' | 'è' | 'ê' => 'e',
        'í' | 'ı' => 'i',
        'ñ' => 'n',
        'ô' | 'ó' | 'ö' => 'o',
        'ü' | 'ú' => 'u',
        other => other,
    });
    let folded: String = letters.filter(char::is_ascii_alphabetic).collect();
    folded.strip_prefix("the").map(str::to_owned).unwrap_or(folded)
}
