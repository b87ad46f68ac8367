# frozen_string_literal: true

# Invents names of towns, letter by letter.
#
# A table says how often each letter followed the two before it in real names. One row of that table is what the next
# letter is drawn from; the names of a group grow together, one request a letter with one row for each name. A low
# temperature plays safe, a high one is bolder; top_p: 0.9 forgets what hardly ever happened.

require "optparse"
require "samplerd/client"

TOWNS = %w[
  amsterdam antwerp augsburg barcelona basel bergamo berlin bern bologna bordeaux bremen brescia brighton bristol brno
  cadiz cambridge canterbury cardiff carlisle chester coventry cordoba cremona darlington derby dijon doncaster dresden
  durham edinburgh exeter ferrara florence freiburg geneva genoa girona glasgow gloucester granada grenoble halifax
  hamburg hannover harlem heidelberg hereford innsbruck ipswich kassel lancaster lausanne leicester leiden leipzig
  lerida lincoln lisbon liverpool london lucerne lugano luxembourg madrid magdeburg malaga manchester mannheim marburg
  marseille messina milan modena montpellier munich nantes naples newcastle norwich nottingham nuremberg orleans
  oxford padova palermo parma pavia perugia peterborough piacenza pisa plymouth porto portsmouth potsdam ravenna
  regensburg rotterdam rostock salamanca salerno salisbury salzburg segovia sevilla sheffield siena southampton
  stirling strasbourg stuttgart swansea tarragona toledo torino toulouse trento treviso trieste udine utrecht valencia
  venice verona vicenza vienna warwick weimar winchester worcester york zaragoza zurich
].freeze

LETTERS = ["", *"a".."z"].freeze # the first ends a name
LONGEST = 14

# Rows of the table: the two letters before -> how often each letter followed, and a little for those that never did.
def learn(names)
  table = Hash.new { |rows, before| rows[before] = Array.new(LETTERS.size, 1e-6) }
  names.each do |name|
    before = "^^"
    [*name.chars, ""].each do |letter|
      table[before][LETTERS.index(letter)] += 1.0
      before = before[1] + letter
    end
  end
  table
end

def invent(client, table, count:, seed:, **params)
  names = Array.new(count, "")
  LONGEST.times do |step|
    open = names.each_index.reject { |i| names[i].end_with?(".") }
    break if open.empty?

    rows = open.map { |i| table["^^#{names[i]}"[-2..]] }
    # A key for each row, and the letter's place as the index of the draw: a name does not depend on its company.
    keys = open.map { |i| seed + i }
    drawn = client.sample(rows, probabilities: true, row_seeds: keys, draw_offset: step, **params)
    open.zip(drawn.samples) { |i, (letter)| names[i] += LETTERS[letter].empty? ? "." : LETTERS[letter] }
  end
  names.map { |name| name.delete(".").capitalize }
end

target = "127.0.0.1:50051"
OptionParser.new { |parser| parser.on("--target HOST:PORT") { |value| target = value } }.parse!

Samplerd::Client.open(target) do |client|
  puts "samplerd #{client.server_info.version} at #{target}; #{TOWNS.size} real towns, and these:"
  table = learn(TOWNS)
  [{ temperature: 0.5 }, { temperature: 1.0, top_p: 0.9 }, { temperature: 1.5 }].each do |params|
    names = invent(client, table, count: 24, seed: 7, **params)
    fresh = names.uniq.reject { |name| TOWNS.include?(name.downcase) }
    puts "", params.map { |name, value| "#{name} #{value}" }.join(", "), "  #{fresh.first(12).join(' ')}"
  end
end
