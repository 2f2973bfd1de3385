# LemonLDAP::NG's portal with dynamic registration, its configuration in a temporary folder. Prints its address when it is
# ready.
use strict;
use warnings;
use File::Temp qw(tempdir);
use IO::Socket::INET;
use JSON;

my $socket = IO::Socket::INET->new( LocalAddr => '127.0.0.1', Proto => 'tcp', Listen => 16 ) or die $!;
my $url    = 'http://127.0.0.1:' . $socket->sockport . '/';
my $folder = tempdir( CLEANUP => 1 );
mkdir "$folder/$_" or die $! for qw(cache conf sessions sessions/lock psessions psessions/lock);

# the configuration that the package ships, with OpenID Connect and registration switched on
my $configuration = decode_json( slurp( glob '/var/lib/lemonldap-ng/conf/lmConf-1.json' ) );
my $storage       = { Directory => "$folder/sessions", LockDirectory => "$folder/sessions/lock" };
%$configuration = (
    %$configuration,
    portal                               => $url,
    captcha                              => '::Captcha::None',
    issuerDBOpenIDConnectActivation      => 1,
    oidcServiceAllowDynamicRegistration  => 1,
    oidcServiceMetaDataIssuer            => $url,
    globalStorageOptions                 => $storage,
    persistentStorageOptions             => { Directory => "$folder/psessions", LockDirectory => "$folder/psessions/lock" },
    localSessionStorageOptions           => { namespace => 'sessions', default_expires_in => 600, directory_umask => '007', cache_root => "$folder/cache", cache_depth => 3 },
    oidcServicePrivateKeySig             => scalar(`openssl genrsa 2048 2>/dev/null`),
);
write_file( "$folder/conf/lmConf-1.json", encode_json($configuration) );
write_file( "$folder/lemonldap-ng.ini", <<"INI" );
[all]
logLevel = error
[configuration]
type = File
dirName = $folder/conf
localStorage = Cache::FileCache
localStorageOptions = { namespace => 'config', default_expires_in => 600, directory_umask => '007', cache_root => '$folder/cache', cache_depth => 3 }
[handler]
status = 0
[portal]
templateDir = /usr/share/lemonldap-ng/portal/templates
staticPrefix = /static
languages = en
checkTime = 1
INI
$ENV{LLNG_DEFAULTCONFFILE} = "$folder/lemonldap-ng.ini";

require Lemonldap::NG::Portal::Main;
require HTTP::Server::PSGI;

# the one that it loads otherwise needs libraries for drawing
eval q{
    package Lemonldap::NG::Portal::Captcha::None;
    use Mouse;
    extends 'Lemonldap::NG::Portal::Main::Plugin';
    sub init { 1 }
    1;
} or die $@;
$INC{'Lemonldap/NG/Portal/Captcha/None.pm'} = __FILE__;

my $app    = Lemonldap::NG::Portal::Main->run( {} );
my $server = HTTP::Server::PSGI->new( listen_sock => $socket, host => '127.0.0.1', port => $socket->sockport );
$| = 1;
print $url, "\n";
$server->run($app);

sub slurp {
    open my $file, '<', $_[0] or die "$_[0]: $!";
    local $/;
    return <$file>;
}

sub write_file {
    open my $file, '>', $_[0] or die "$_[0]: $!";
    print $file $_[1];
}
