# Hashes, regular expressions, sorting, packing, objects, floats; a line for each step.
use strict;
use warnings;
$| = 1;

my $state = 5;
sub mix { $state = ($state * 31 + shift) % 2147483647 }

package Chain;
sub new { my ($class, $value, $next) = @_; return bless { value => $value, next => $next }, $class }
sub length { my $self = shift; my $n = 0; while ($self) { $n++; $self = $self->{next} } return $n }

package main;
my %seen;
my $x = 0.6;
for my $step (1 .. 90) {
    for my $i (1 .. 9000) {
        $x = 3.95 * $x * (1 - $x);
        my $key = sprintf "%04x", int($x * 10000);
        $seen{$key} += $i;
        mix($seen{$key}) if $key =~ /^\d+[a-f]/;
    }
    my @keys = sort { $seen{$a} <=> $seen{$b} || $a cmp $b } keys %seen;
    my $text = join ' ', @keys[0 .. ($#keys < 1500 ? $#keys : 1500)];
    my $count = () = $text =~ /[0-4]f/g;
    (my $changed = $text) =~ s/(\w)(\w)\b/$2$1/g;
    mix(unpack '%32C*', $changed);
    my $chain;
    $chain = Chain->new($_, $chain) for 1 .. 500;
    mix($chain->length);
    printf "%d %d %d %d %.12g\n", $step, $state, scalar @keys, $count, $x;
}
exit 11;
